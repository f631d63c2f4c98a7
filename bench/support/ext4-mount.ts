// Mounts an image until its input ends: the process that a bench measures, alone with its serving thread.
// Usage: ext4-mount.js IMAGE DIRECTORY [SRC], SRC being the folder `src` of another build.

import { pathToFileURL } from 'node:url';
import type * as MountModule from '../../src/fuse/mount/mount.ts';

const [image = '', directory = '', src] = process.argv.slice(2);
const base = src === undefined ? new URL('../../src/', import.meta.url) : pathToFileURL(`${src}/`);
const { mount } = (await import(new URL('fuse/mount/mount.js', base).href)) as typeof MountModule;
const mounted = await mount(new URL('image/image-source.js', base), directory, { args: { path: image, options: {} } });
process.stdout.write('mounted\n');
process.stdin.resume();
process.stdin.once('end', () => {
  void mounted.unmount().then(() => process.exit(0));
});
