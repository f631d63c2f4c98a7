// The filesystem that tests of faces work on.
export { MemFs } from '../../src/fs/memfs/mem-fs.ts';
