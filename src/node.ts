// The package as Node sees it: all of the platform-neutral part, devices over files, and trace points on diagnostics_channel.
import { channel } from 'node:diagnostics_channel';
import { bindTracer } from './base/tracer.ts';

bindTracer(channel);

export { FileDevice, type FileDeviceOptions } from './block/file-device.ts';
export * from './index.ts';
