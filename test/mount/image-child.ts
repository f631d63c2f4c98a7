// Serves an image from a process of its own, to be killed or ended by its input.
//
// Usage: node image-child.js IMAGE DIRECTORY. Prints a line when it is mounted.

import { once } from 'node:events';
import { mount } from '../../src/fuse/mount/mount.ts';
import type { ImageSourceArgs } from '../../src/image/image-source.ts';

const [path = '', directory = ''] = process.argv.slice(2);
const args: ImageSourceArgs = { path, options: {} };
const mounted = await mount(new URL('../../src/image/image-source.js', import.meta.url), directory, { args });
process.stdout.write('mounted\n');
process.stdin.resume();
await once(process.stdin, 'end');
await mounted.unmount();
