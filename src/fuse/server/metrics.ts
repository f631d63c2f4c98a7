export interface NotificationMetrics {
  /** Notifications that the kernel took. */
  readonly taken: number;
  /** It knew nothing of what they spoke of (ENOENT). */
  readonly unknown: number;
  /** Other errors. */
  readonly failed: number;
  /** Times that so many changes had to be told that everything was told to be stale instead. */
  readonly overflows: number;
  /** Given to the channel and not taken yet. */
  readonly underWay: number;
  /** What waits here to be given to it. */
  readonly queued: number;
}

/** What only the server knows; what is asked and answered shows on the channel. Plain numbers: they cross threads as they are. */
export interface ServerMetrics {
  /** Requests that wait for the filesystem. */
  readonly inFlight: number;
  /** Requests that were answered with ETIMEDOUT, and those of them whose filesystem has still not come back. */
  readonly timedOut: number;
  readonly late: number;
  /** Answers that nobody waited for any more. */
  readonly unwanted: number;
  readonly notifications: NotificationMetrics;
}
