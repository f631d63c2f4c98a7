// The process in the background: mounts what the process that started it asks for, tells it how that went, and serves.

import { type Failure, failureOf } from './failure.ts';
import { dumpOnSignal, type MountFacts, type MountRequest, mountServed, printNotice, stopRequest, untilEnded } from './served-mount.ts';

export type FromServing = { readonly facts: MountFacts; readonly warnings: readonly string[] } | { readonly failure: Failure };

function tell(message: FromServing): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(message, undefined, {}, () => resolve());
  });
}

async function serve(request: MountRequest): Promise<void> {
  const stop = stopRequest();
  // Who asked has gone, perhaps tired of waiting for a source. What is mounted by now, the exit takes away.
  const orphaned = (): void => process.exit(1);
  process.once('disconnect', orphaned);
  const warnings: string[] = [];
  const notice = (text: string): void => {
    warnings.push(text);
    printNotice(text);
  };
  let onNotice = notice;
  try {
    const served = await mountServed(request, (text) => onNotice(text));
    dumpOnSignal(served.mounted);
    process.off('disconnect', orphaned);
    onNotice = printNotice;
    await tell({ facts: served.facts, warnings });
    // Who asked hangs up too, and may have been faster.
    if (process.connected) process.disconnect();
    await untilEnded(served, stop);
  } catch (error) {
    process.off('disconnect', orphaned);
    if (process.connected) await tell({ failure: failureOf(error) });
    else process.stderr.write(`iomap: ${failureOf(error).message}\n`);
    process.exitCode = 1;
  } finally {
    if (process.connected) process.disconnect();
  }
}

process.once('message', (request: MountRequest) => void serve(request));
