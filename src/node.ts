// The package as Node sees it: all of the platform-neutral part, the face with the shape of node:fs, devices over files, and trace points on
// diagnostics_channel.
import { channel } from 'node:diagnostics_channel';
import { bindTracer } from './base/tracer.ts';

bindTracer(channel);

export { FileDevice, type FileDeviceOptions } from './block/file-device.ts';
export { Mount, type MountOptions, mount } from './fuse/mount/mount.ts';
export type { ServerOptions } from './fuse/server/options.ts';
export * from './index.ts';
export { Dir } from './volume/dir.ts';
export { Dirent } from './volume/dirent.ts';
export { FileHandle } from './volume/file-handle.ts';
export { nodeVfsProvider } from './volume/node-vfs.ts';
export { BigIntStats, StatFs as VolumeStatFs, Stats } from './volume/stats.ts';
export { Volume, type VolumeOptions } from './volume/volume.ts';
export { VolumeSync } from './volume/volume-sync.ts';
