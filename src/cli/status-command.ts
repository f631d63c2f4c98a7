import { asOurs, type OurMount, readMountTable } from './mount-table.ts';
import type { CommandLine } from './parse.ts';
import { print } from './print.ts';
import { stateOf } from './probe.ts';
import { isServing } from './registry.ts';

/** What `iomap status` says of one mount. */
export interface MountStatus {
  readonly directory: string;
  /** SOURCE as it was typed; null where no serving process noted it. */
  readonly source: string | null;
  readonly type: string;
  readonly fsname: string;
  readonly device: string;
  readonly readOnly: boolean;
  /** Of the serving process, while it runs. */
  readonly pid: number | null;
  /** 'answers', 'stale', 'silent', or the code of the error that it answers with. */
  readonly state: string;
}

export async function statusCommand(line: CommandLine): Promise<number> {
  const ours = readMountTable()
    .map(asOurs)
    .filter((mount) => mount !== undefined);
  const mounts = await Promise.all(ours.map(statusOf));
  print(line, { mounts }, mounts.length === 0 ? 'no mounts' : mounts.map(describe).join('\n'));
  return 0;
}

async function statusOf({ entry, registration }: OurMount): Promise<MountStatus> {
  const { directory, type, fsname, device, words } = entry;
  return {
    directory,
    source: registration?.source ?? null,
    type,
    fsname,
    device,
    readOnly: words.includes('ro'),
    pid: registration !== undefined && isServing(registration) ? registration.pid : null,
    state: await stateOf(directory),
  };
}

function describe({ directory, source, fsname, pid, state, readOnly }: MountStatus): string {
  return `${directory}: ${source ?? fsname}${readOnly ? ', read only' : ''}, ${pid === null ? 'process unknown' : `process ${pid}`}, ${state}`;
}
