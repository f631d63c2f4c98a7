import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hasCode } from '../base/fs-error.ts';
import { type Mount, mount } from '../fuse/mount/mount.ts';
import type { MountOptions } from '../fuse/mount/mount-options.ts';
import { openControl } from './control.ts';
import { inFlightText } from './in-flight.ts';
import { mountAt } from './mount-table.ts';
import { register } from './registry.ts';
import type { Source } from './source.ts';

/** A mount to be made. Crosses from the process that was called to the one that serves, so all of it is plain data. */
export interface MountRequest {
  readonly source: Source;
  readonly directory: string;
  readonly options: MountOptions;
  /** Holds the number of the serving process while it serves. */
  readonly pidfile: string | undefined;
}

/** What there is to say about a mount that was made. */
export interface MountFacts {
  readonly source: string;
  readonly directory: string;
  /** Of the serving process. */
  readonly pid: number;
  /** The protocol that was agreed on. */
  readonly protocol: string;
  /** Where metrics are served, if that was asked for. */
  readonly metrics?: string;
}

export interface ServedMount {
  readonly mounted: Mount;
  readonly facts: MountFacts;
  /** Takes away the notes about it: for a process that ends before its mount does. */
  readonly forget: () => void;
}

/** Mounts in this process, and notes it for others: in the registry, and in the pidfile. Both go when the mount ends. */
export async function mountServed(
  { source, directory, options, pidfile }: MountRequest,
  onNotice: (text: string) => void,
): Promise<ServedMount> {
  const all: MountOptions = { paths: true, fsname: source.fsname, ...source.options, ...options, args: source.args, onNotice };
  const mounted = await mount(source.url, directory, all);
  const notes: (() => void)[] = [];
  const forget = (): void => {
    for (const remove of notes) remove();
  };
  mounted.ended.then(forget, forget);
  const entry = mountAt(mounted.directory);
  const unregister = entry === undefined ? undefined : register(entry, source.text);
  if (entry !== undefined && unregister !== undefined) {
    notes.push(unregister);
    const control = await openControl(entry, mounted);
    if (control !== undefined) notes.push(control);
  }
  if (pidfile !== undefined) {
    try {
      writeFileSync(pidfile, `${process.pid}\n`);
    } catch (error) {
      await mounted.unmount();
      throw error;
    }
    notes.push(() => removePidfile(pidfile));
  }
  const { minor, metricsAddress } = mounted;
  const facts: MountFacts = {
    source: source.text,
    directory: mounted.directory,
    pid: process.pid,
    protocol: `7.${minor}`,
    ...(metricsAddress === undefined ? {} : { metrics: metricsAddress }),
  };
  return { mounted, facts, forget };
}

export function printNotice(text: string): void {
  process.stderr.write(`iomap: ${text}\n`);
}

/** SIGUSR1 prints the requests in flight to stderr, which is the log of a process in the background. */
export function dumpOnSignal(mounted: Mount): void {
  process.on('SIGUSR1', () => process.stderr.write(`iomap: ${mounted.directory}\n${inFlightText(mounted.inFlight)}`));
}

function removePidfile(pidfile: string): void {
  try {
    if (readFileSync(pidfile, 'utf8') === `${process.pid}\n`) rmSync(pidfile);
  } catch {
    // Somebody took it away before.
  }
}

/** Signals that ask a serving process to end. */
export interface StopRequest {
  /** Resolves at the first. A second one ends the process at once, whoever uses the mount: by SIGKILL, as its thread waits in read(2). */
  readonly asked: Promise<void>;
  /** The mount that a second one leaves. */
  serving: ServedMount | undefined;
}

export function stopRequest(): StopRequest {
  let ask = (): void => {};
  let count = 0;
  const request: StopRequest = {
    asked: new Promise((resolve) => {
      ask = resolve;
    }),
    serving: undefined,
  };
  const stop = (): void => {
    count += 1;
    if (count === 1) {
      ask();
      return;
    }
    if (request.serving !== undefined) leave(request.serving);
    process.kill(process.pid, 'SIGKILL');
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  return request;
}

/** Takes a mount out of the tree and forgets about it, for a process that is about to kill itself. */
export function leave({ mounted, forget }: ServedMount): void {
  spawnSync('umount', ['-l', mounted.directory], { stdio: 'ignore' });
  forget();
}

/**
 * Waits until a mount is over: by umount(8), or by a signal.
 *
 * Errors: what ended the filesystem, if something did.
 */
export async function untilEnded(served: ServedMount, stop: StopRequest): Promise<void> {
  stop.serving = served;
  const { mounted } = served;
  const asked = await Promise.race([stop.asked.then(() => true), mounted.ended.then(() => false)]);
  if (asked) return endMount(mounted);
  const error = await mounted.ended;
  if (error !== undefined) throw error;
}

/** Unmounts; what is in use is taken out of the tree, and served until its last user has gone. */
export async function endMount(mounted: Mount): Promise<void> {
  try {
    await mounted.unmount();
  } catch (error) {
    if (!hasCode(error, 'EBUSY')) throw error;
    process.stderr.write(`iomap: ${mounted.directory} is in use, and ends with its last user\n`);
    await mounted.unmount({ lazy: true });
  }
}
