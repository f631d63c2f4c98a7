import type { InFlightRequest } from '../fuse/mount/ledger.ts';
import { askControl } from './control.ts';
import { inFlightText } from './in-flight.ts';
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
  /** Requests that wait for an answer, the oldest first; null where the serving process could not be asked. */
  readonly inFlight: readonly InFlightRequest[] | null;
}

/** How long a serving process has to answer. */
const TIMEOUT_MS = 2000;

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
  const pid = registration !== undefined && isServing(registration) ? registration.pid : null;
  const asked = pid === null ? undefined : askControl(device, '/in-flight', AbortSignal.timeout(TIMEOUT_MS));
  // Asked first: whether it answers is a request too.
  const inFlight = (await asked) ?? null;
  return {
    directory,
    source: registration?.source ?? null,
    type,
    fsname,
    device,
    readOnly: words.includes('ro'),
    pid,
    state: await stateOf(directory),
    inFlight,
  };
}

function describe({ directory, source, fsname, pid, state, readOnly, inFlight }: MountStatus): string {
  const served = pid === null ? 'process unknown' : `process ${pid}`;
  const line = `${directory}: ${source ?? fsname}${readOnly ? ', read only' : ''}, ${served}, ${state}`;
  return inFlight === null || inFlight.length === 0 ? line : `${line}\n${inFlightText(inFlight).trimEnd()}`;
}
