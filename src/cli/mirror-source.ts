// The source mirror: as a module for the thread that serves.

import { MirrorFs } from '../fs/mirror/mirror-fs.ts';

export interface MirrorSourceArgs {
  readonly directory: string;
}

export default ({ directory }: MirrorSourceArgs): MirrorFs => new MirrorFs(directory);
