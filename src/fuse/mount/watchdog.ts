// A thread that looks after one that serves a mount on its event loop. If that thread makes a synchronous call on its own mount, it waits for an
// answer that only itself could give, for ever, and nothing but another thread can tell. So it does if it waits for a program that makes the call. Started by mount-here.ts.

import { spawnSync } from 'node:child_process';
import { closeSync, readFileSync, writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { CONTROL_CLOSED } from '../transport/dev-fuse.ts';
import { Ledger } from './ledger.ts';
import { TOOL_ENV } from './run-program.ts';
import { BEAT, BEATS, FIRED, STOP, type WatchdogData } from './watchdog-signs.ts';

/** What a thread that waits for a FUSE server sleeps in. */
const WAITS_FOR_FUSE = /fuse|request_wait_answer/;
/** What it sleeps in while it waits synchronously for a program, as execSync does: an event loop of its own. */
const WAITS_FOR_PROGRAM = /epoll|ep_poll/;
/** Processes between a program and this one, at most. */
const ANCESTORS_MAX = 32;

const { fd, directory, control, mailbox, ledger, signs, thread, watchdogMs } = workerData as WatchdogData;
const requests = new Ledger(ledger);
const message = new DataView(mailbox.buffer, mailbox.byteOffset);

/**
 * The loop is silent. Does its thread sleep in a call on a FUSE mount, while a request waits for it here? A loop that is busy with something else
 * does not: it runs, or sleeps elsewhere.
 */
function waitsForItself(): boolean {
  const hasMessage = message.getUint32(0, true) !== 0;
  if (!hasMessage && requests.inFlight.length === 0) return false;
  const sleepsIn = tryRead(`/proc/${thread}/wchan`);
  if (sleepsIn !== undefined && sleepsIn !== '' && sleepsIn !== '0') {
    return WAITS_FOR_FUSE.test(sleepsIn) || (hasMessage && WAITS_FOR_PROGRAM.test(sleepsIn) && isOurs(message.getUint32(32, true)));
  }
  // The kernel does not say where: then the request has to be of this process.
  const isAsleep = !/^\d+ \(.*\) R/s.test(tryRead(`/proc/${thread}/stat`) ?? '');
  return isAsleep && hasMessage && message.getUint32(32, true) === process.pid;
}

/** Is it a program that this process started, or one of those started by it? */
function isOurs(pid: number): boolean {
  for (let at = pid, i = 0; at > 1 && i < ANCESTORS_MAX; i++) {
    const [, parent] = /^\d+ \(.*\) \S (\d+)/s.exec(tryRead(`/proc/${at}/stat`) ?? '') ?? [];
    at = Number(parent ?? 0);
    if (at === process.pid) return true;
  }
  return false;
}

function tryRead(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // this kernel or container does not show it
  }
}

/** Closes the device: whoever waits for an answer gets ECONNABORTED. */
function end(): void {
  Atomics.store(signs, FIRED, 1);
  const why = `iomap: the thread that serves ${directory} waits for itself in a synchronous call on it; the mount is ended\n`;
  writeSync(2, why); // process.stderr of this thread goes through the loop that is silent
  if (Atomics.exchange(control, 0, CONTROL_CLOSED) !== CONTROL_CLOSED) closeSync(fd);
}

/** A read of the device under way keeps the descriptor open; then only this ends the connection. */
function force(): void {
  spawnSync('umount', ['-f', '-l', '--', directory], { stdio: 'ignore', env: TOOL_ENV });
}

let beat = Atomics.load(signs, BEAT);
let silent = 0;
let stuck = 0;
while (Atomics.wait(signs, STOP, 0, Math.max(1, watchdogMs / BEATS)) === 'timed-out') {
  const now = Atomics.load(signs, BEAT);
  silent = now === beat ? silent + 1 : 0;
  beat = now;
  if (Atomics.load(signs, FIRED) !== 0) {
    if (silent === 4 * BEATS) force();
    continue;
  }
  // Each look in half of the time has to find the same.
  stuck = silent > 0 && waitsForItself() ? stuck + 1 : 0;
  if (silent >= BEATS && stuck >= BEATS / 2) {
    end();
    silent = 0;
  }
}
