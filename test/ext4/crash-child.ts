// Serves an image at a directory, until it is killed. Usage: node crash-child.js IMAGE DIRECTORY; prints "ready" when it is mounted.

import { mount } from '../../src/fuse/mount/mount.ts';

const [path, directory] = process.argv.slice(2) as [string, string];
await mount(new URL('../../src/image/image-source.js', import.meta.url), directory, { args: { path, options: {} }, fsname: path });
process.stdout.write('ready\n');
