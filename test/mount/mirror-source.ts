// What a mount in a test serves: the directory that its argument names.
import { MirrorFs, type MirrorFsOptions } from '../../src/fs/mirror/mirror-fs.ts';

export default ({ directory, ...options }: MirrorFsOptions & { directory: string }): MirrorFs => new MirrorFs(directory, options);
