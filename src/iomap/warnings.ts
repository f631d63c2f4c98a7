/**
 * Situations that a filesystem on this engine should not get into, counted instead of printed. All zero in a healthy run.
 *
 * zeroedPastEof:     zero_range touched a folio that starts past the end of the file: it will never be written.
 * dirtyAfterDirect:  cached data over a direct write could not be dropped: somebody stores through a mapped view at the same time.
 * delallocInDirect:  a direct request met a delayed allocation that a mapped store put under its flush.
 */
export const warnings = { zeroedPastEof: 0, dirtyAfterDirect: 0, delallocInDirect: 0 };
