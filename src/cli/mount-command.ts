import { resolve } from 'node:path';
import { serveInBackground } from './background.ts';
import { mountOptionsOf } from './mount-words.ts';
import type { CommandLine } from './parse.ts';
import { print } from './print.ts';
import { type MountFacts, type MountRequest, mountServed, stopRequest, untilEnded } from './served-mount.ts';
import { sourceOf } from './source.ts';
import { removeStale } from './umount-command.ts';

export async function mountCommand(line: CommandLine): Promise<number> {
  const [source = '', directory = ''] = line.operands;
  const pidfile = line.value('pidfile');
  const log = line.value('log');
  const request: MountRequest = {
    source: sourceOf(source, line.value('args'), 'mount'),
    directory: resolve(directory),
    options: mountOptionsOf(line.values('options'), 'mount'),
    pidfile: pidfile === undefined ? undefined : resolve(pidfile),
  };
  if (line.has('replace-stale')) await removeStale(request.directory);
  if (line.has('foreground')) {
    const stop = stopRequest();
    const served = await mountServed(request);
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
