// The package as Node sees it: all of the platform-neutral part, the face with the shape of node:fs, devices over files, and trace points on
// diagnostics_channel.
import { channel } from 'node:diagnostics_channel';
import { bindTracer } from './base/tracer.ts';

bindTracer(channel);

export { FileDevice, type FileDeviceOptions } from './block/file-device.ts';
export type { InFlightRequest } from './fuse/mount/ledger.ts';
export { type Metrics, type MountMetrics, type OperationMetrics, prometheusText } from './fuse/mount/metrics.ts';
export { Mount, mount } from './fuse/mount/mount.ts';
export { type MountHereOptions, mountHere, type ServeOptions, serve } from './fuse/mount/mount-here.ts';
export type { MountOptions } from './fuse/mount/mount-options.ts';
export type { ServerOptions } from './fuse/server/options.ts';
export { type FuseChannel, SESSION_END } from './fuse/transport/channel.ts';
export { DevFuse, type DevFuseOptions } from './fuse/transport/dev-fuse.ts';
export { type ImageOptions, openImage } from './image/image.ts';
export { IMAGE_SOURCE, mountImage } from './image/mount-image.ts';
export { openExt4 } from './image/open-ext4.ts';
export * from './index.ts';
export { Dir } from './volume/dir.ts';
export { Dirent } from './volume/dirent.ts';
export { FileHandle } from './volume/file-handle.ts';
export { nodeVfsProvider } from './volume/node-vfs.ts';
export { BigIntStats, StatFs as VolumeStatFs, Stats } from './volume/stats.ts';
export { Volume, type VolumeOptions } from './volume/volume.ts';
export { VolumeSync } from './volume/volume-sync.ts';
