// The conformance map: what holds of a file system on Linux, by name. The same functions run on every file system that this project has and on
// the kernel's own, which say whether the map is right.

import { acls } from './acls.ts';
import type { Behaviour, Behaviours } from './behaviour.ts';
import { concurrent } from './concurrent.ts';
import { data } from './data.ts';
import { directories } from './directories.ts';
import { links } from './links.ts';
import { locks } from './locks.ts';
import { opens } from './opens.ts';
import { paths } from './paths.ts';
import { modes, permissions } from './permissions.ts';
import { renames } from './renames.ts';
import { space } from './space.ts';
import { times } from './times.ts';
import { whole } from './whole.ts';
import { xattrs } from './xattrs.ts';

const GROUPS: Record<string, Behaviours> = {
  path: paths,
  open: opens,
  link: links,
  rename: renames,
  directory: directories,
  permission: permissions,
  mode: modes,
  time: times,
  data,
  space,
  xattr: xattrs,
  acl: acls,
  lock: locks,
  whole,
  concurrent,
};

/** From 'group: sentence' to the function that throws where the sentence is not true. */
export const CONFORMANCE: ReadonlyMap<string, Behaviour> = new Map(
  Object.entries(GROUPS).flatMap(([group, behaviours]) =>
    Object.entries(behaviours).map(([name, run]) => [`${group}: ${name}`, run] as const),
  ),
);
