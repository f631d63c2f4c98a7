import { setTimeout as delay } from 'node:timers/promises';
import { FsError } from '../base/fs-error.ts';
import { asOurs, mountAt, type OurMount } from './mount-table.ts';
import type { CommandLine } from './parse.ts';
import { print } from './print.ts';
import { stateOf } from './probe.ts';
import { isServing, type Registration } from './registry.ts';
import { runTool } from './run-tool.ts';

/** How long a serving process has to end after its mount. */
const END_TIMEOUT_MS = 10_000;
const POLL_MS = 10;

export async function umountCommand(line: CommandLine): Promise<number> {
  const { entry, registration } = ourMountAt(line.operands[0] ?? '');
  const { directory } = entry;
  const lazy = line.has('lazy');
  await unmount(directory, lazy);
  const ended = registration === undefined || lazy || (await hasEnded(registration));
  const rest = ended ? '' : `; process ${registration.pid} has not ended yet`;
  print(line, { directory, lazy, pid: registration?.pid ?? null, ended }, `${directory} is unmounted${rest}`);
  return 0;
}

/** Errors: EINVAL where nothing is mounted, as umount(2) has it; EPERM for a mount of others. */
function ourMountAt(directory: string): OurMount {
  const entry = mountAt(directory);
  if (entry === undefined) throw new FsError('EINVAL', 'umount', { path: directory, detail: 'nothing is mounted there' });
  const ours = asOurs(entry);
  if (ours === undefined) throw new FsError('EPERM', 'umount', { path: directory, detail: `a mount of type ${entry.type} is not ours` });
  return ours;
}

async function unmount(directory: string, lazy: boolean): Promise<void> {
  const { code, output } = await runTool('umount', [...(lazy ? ['-l'] : []), '--', directory]);
  if (code === 0) return;
  const detail = output.trim();
  throw new FsError(/busy/.test(detail) ? 'EBUSY' : 'EIO', 'umount', { path: directory, detail });
}

/** Takes a mount of ours whose process is gone off a directory, if there is one. */
export async function removeStale(directory: string): Promise<void> {
  const entry = mountAt(directory);
  if (entry === undefined || asOurs(entry) === undefined) return;
  if ((await stateOf(entry.directory)) === 'stale') await unmount(entry.directory, true);
}

async function hasEnded(registration: Registration): Promise<boolean> {
  for (const end = Date.now() + END_TIMEOUT_MS; isServing(registration); await delay(POLL_MS)) {
    if (Date.now() > end) return false;
  }
  return true;
}
