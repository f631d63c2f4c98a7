// What a thread that serves a mount on its event loop and the one that looks after it share.

export interface WatchdogData {
  readonly fd: number;
  readonly directory: string;
  /** Of the DevFuse. */
  readonly control: Int32Array;
  /** Of the DevFuse: a message that the loop has not turned to yet. */
  readonly mailbox: Uint8Array;
  /** Of the Ledger. */
  readonly ledger: SharedArrayBuffer;
  /** See SIGNS. */
  readonly signs: Int32Array;
  /** Folder of the serving thread below /proc. */
  readonly thread: string;
  readonly watchdogMs: number;
}

/** Numbers of `signs`: turns of the serving loop; not 0 once the mount is over; not 0 once the thread was found waiting for itself. */
export const [BEAT, STOP, FIRED] = [0, 1, 2];
export const SIGNS = 3;

/** How often the loop gives a sign, and is looked at, in one watchdogMs. */
export const BEATS = 8;
