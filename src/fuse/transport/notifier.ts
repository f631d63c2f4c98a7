// The thread that writes the notifications of one device: the kernel may keep such a write until a request is answered, and who answers must not
// stand in it. Started by dev-fuse.ts at the first notification.

import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

/** One notification to write. Numbers go up, and come back in order. */
export interface ToNotifier {
  readonly id: number;
  readonly bytes: Uint8Array;
}

export interface FromNotifier {
  readonly id: number;
  /** Name of the kernel's error; undefined: it took the notification. */
  readonly code: string | undefined;
}

export interface NotifierData {
  readonly fd: number;
  /** [0] is not 0 from the moment on at which the device is closed: the number may then be another file's. */
  readonly closed: Int32Array;
}

const { fd, closed } = workerData as NotifierData;

function write(bytes: Uint8Array): string | undefined {
  // Who closes waits for the notifications that were handed over, so that this cannot change between here and the write.
  if (Atomics.load(closed, 0) !== 0) return 'ENODEV';
  try {
    writeSync(fd, bytes);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'EIO';
  }
}

parentPort?.on('message', ({ id, bytes }: ToNotifier) => {
  const said: FromNotifier = { id, code: write(bytes) };
  parentPort?.postMessage(said);
});
