// Volumes of ext2, ext3 and ext4 with damaged metadata, by seed, with checksums made right or not: mounted, read, changed, unmounted. Anything but
// success or an FsError is a bug, and so is what does not end, takes memory without bound, or reads outside of the volume.
// Usage: node build/test/fuzz/ext4-images.js --from S --seeds N [--json] [--trace]; needs mke2fs
// Exits 1 after the first seed that fails, with the command that repeats it. --trace prints what is damaged.

import { damagedVolume } from '../support/ext4-formats-fuzz.ts';
import { watched } from '../support/ext4-formats-watchdog.ts';
import { whyNoE2fsprogs } from '../support/ext4-volume.ts';
import { fuzzProgram } from '../support/fuzz-program.ts';

const why = whyNoE2fsprogs();
if (why === undefined) await fuzzProgram('ext4-images', watched('ext4-images', damagedVolume));
else console.log(`ext4-images: nothing to do, ${why}`);
