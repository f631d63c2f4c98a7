/** Our own mistake: an invariant of the engine does not hold. Never thrown for bad input from outside. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
  readonly code = 'ERR_ASSERTION';
}

/** Stops the operation when one of our own invariants is broken. Always on. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}
