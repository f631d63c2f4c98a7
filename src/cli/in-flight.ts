import type { InFlightRequest } from '../fuse/mount/ledger.ts';
import { nameText } from '../vfs/name.ts';

/** A line for each request: FUSE_READ /a/b, process 4711, 1.20 s. */
export function inFlightText(requests: readonly InFlightRequest[]): string {
  if (requests.length === 0) return '  no requests in flight\n';
  return requests
    .map((each) => `  ${each.operation} ${placeOf(each)}, process ${each.pid}, ${(each.ageMs / 1000).toFixed(2)} s\n`)
    .join('');
}

/** The path, as far as it is known: where the request waits in the kernel's order of things, a node and a name. */
function placeOf({ path, name, node }: InFlightRequest): string {
  const at = path === undefined ? `node ${node}` : nameText(path);
  return name === undefined ? at : `${at === '/' ? '' : at}${path === undefined ? ' ' : '/'}${nameText(name)}`;
}
