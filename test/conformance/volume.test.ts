// A Volume of memfs behaves as the map says, where the methods of node:fs can say it.

import { MemFs } from '../../src/fs/memfs/mem-fs.ts';
import { Volume } from '../../src/volume/volume.ts';
import { VolumeFace } from '../support/volume-face.ts';
import { runConformance } from './run.ts';

runConformance('a Volume of memfs behaves as the map says', () => ({
  open: () => {
    const fs = new MemFs();
    const setReadOnly = (isReadOnly: boolean) => Object.defineProperty(fs, 'isReadOnly', { value: isReadOnly, configurable: true });
    return new VolumeFace(Volume.create(fs), setReadOnly);
  },
  lacks: {
    'time: times are kept to the nanosecond': 'utimes takes seconds as a double',
    'time: nanoseconds of a second or more are EINVAL': 'utimes takes seconds as a double',
    'link: a special file is not truncated by path': 'ENXIO: truncate of node:fs opens the file',
    'space: fallocate of what is too large is EFBIG': 'positions are safe integers',
    'data: a file that would be too large is EFBIG': 'positions are safe integers',
  },
}));
