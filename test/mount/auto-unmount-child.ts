// A process of its own that mounts memfs on the directory argv[2], to be killed.
import { mount } from '../../src/fuse/mount/mount.ts';
import { MEM_SOURCE } from '../support/fuse-mount.ts';

await mount(MEM_SOURCE, process.argv[2] ?? '', { autoUnmount: true });
process.stdout.write('mounted\n');
setInterval(() => {}, 1e6);
