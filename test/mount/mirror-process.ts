// Serves a mirror from a process of its own until its input ends: tests change the ids of their process, which is those of all its threads.
//
// Usage: node mirror-process.js MOUNTPOINT OPTIONS, where OPTIONS are those of mount() as JSON. Prints a line when it is mounted.

import { once } from 'node:events';
import { mount } from '../../src/fuse/mount/mount.ts';

const [directory = '', options = '{}'] = process.argv.slice(2);
const mounted = await mount(new URL('./mirror-source.js', import.meta.url), directory, JSON.parse(options));
process.stdout.write('mounted\n');
process.stdin.resume();
await once(process.stdin, 'end');
await mounted.unmount();
