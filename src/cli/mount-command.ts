import { resolve } from 'node:path';
import { serveInBackground } from './background.ts';
import type { CommandLine } from './parse.ts';
import { print } from './print.ts';
import { dumpOnSignal, type MountFacts, type MountRequest, mountServed, printNotice, stopRequest, untilEnded } from './served-mount.ts';
import { sourceRequest } from './source.ts';
import { removeStale } from './umount-command.ts';

export async function mountCommand(line: CommandLine): Promise<number> {
  const [, directory = ''] = line.operands;
  const pidfile = line.value('pidfile');
  const log = line.value('log');
  const metrics = line.value('metrics');
  const { source, options } = sourceRequest(line);
  const request: MountRequest = {
    source,
    directory: resolve(directory),
    options: metrics === undefined ? options : { ...options, metrics },
    pidfile: pidfile === undefined ? undefined : resolve(pidfile),
  };
  if (line.has('replace-stale')) await removeStale(request.directory);
  if (line.has('foreground')) {
    const stop = stopRequest();
    const served = await mountServed(request, printNotice);
    dumpOnSignal(served.mounted);
    say(line, served.facts);
    await untilEnded(served, stop);
  } else {
    say(line, await serveInBackground(request, log === undefined ? undefined : resolve(log)));
  }
  return 0;
}

function say(line: CommandLine, facts: MountFacts): void {
  print(line, facts, `${facts.source} is mounted on ${facts.directory}, served by process ${facts.pid}`);
}
