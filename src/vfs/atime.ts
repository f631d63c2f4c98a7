import type { Attr, Timespec } from './attr.ts';
import { isDirectory } from './uapi.ts';

/**
 * When reading a file changes its atime. Source: mount(8).
 *
 * - relatime: when it is not after mtime and ctime, or a day old;
 * - nodiratime: as relatime for files, never for directories.
 */
export type AtimePolicy = 'relatime' | 'noatime' | 'strictatime' | 'nodiratime';

/** Seconds after which relatime lets an atime go stale no longer. */
const RELATIME_AGE_MAX = 24 * 60 * 60;

/** Does a read at `now` of a file with these times change its atime? */
export function needsAtimeUpdate(
  policy: AtimePolicy,
  times: Pick<Attr, 'atime' | 'atimeNsec' | 'mtime' | 'mtimeNsec' | 'ctime' | 'ctimeNsec'>,
  mode: number,
  now: Timespec,
): boolean {
  if (policy === 'noatime' || (policy === 'nodiratime' && isDirectory(mode))) return false;
  const { atime, atimeNsec, mtime, mtimeNsec, ctime, ctimeNsec } = times;
  if (atime === now.sec && atimeNsec === now.nsec) return false;
  if (policy === 'strictatime') return true;
  return (
    isNotAfter(atime, atimeNsec, mtime, mtimeNsec) || isNotAfter(atime, atimeNsec, ctime, ctimeNsec) || now.sec - atime >= RELATIME_AGE_MAX
  );
}

function isNotAfter(sec: number, nsec: number, otherSec: number, otherNsec: number): boolean {
  return sec < otherSec || (sec === otherSec && nsec <= otherNsec);
}
