// Messages as a Linux 6.18 kernel sent them (protocol 7.45, x86-64), and what they say. Fields that differ from run to run are fixed here.

/** Bytes of hexadecimal digits; spaces and line ends are for the reader. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, '');
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
}

/** The first message of a session: 104 bytes, all flags to bit 42 but FILE_OPS, MAP_ALIGNMENT, SUBMOUNTS, INIT_RESERVED, HAS_INODE_DAX. */
export const INIT: Uint8Array = hex(`
  68000000 1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 0000 0000
  07000000 2d000000 00000200 fbffff73 fd070000
  ${'00000000'.repeat(11)}`);

/** The same from a machine with the other byte order. */
export const INIT_SWAPPED: Uint8Array = hex(`
  00000068 0000001a 0000000000000002 0000000000000000 00000000 00000000 00000000 0000 0000
  00000007 0000002d 00020000 73fffffb 000007fd
  ${'00000000'.repeat(11)}`);

/**
 * mkdir("newd", 0755) with umask 022 by uid 4321, fsgid 1234, who is in group 77, that of the directory. Both creation contexts are agreed
 * on, and no LSM has a label. The extensions begin 13 bytes behind the header.
 */
export const MKDIR: Uint8Array = hex(`
  4d000000 09000000 0400000000000000 0100000000000000 e1100000 d2040000 39300000 0300 0000
  ed010000 12000000 6e65776400
  08000000 00000000
  10000000 20000000 01000000 4d000000`);

/** The same with FUSE_CREATE_SUPP_GROUP only. */
export const MKDIR_GROUPS: Uint8Array = hex(`
  45000000 09000000 0400000000000000 0100000000000000 e1100000 d2040000 39300000 0200 0000
  ed010000 12000000 6e65776400
  10000000 20000000 01000000 4d000000`);

/** The same with FUSE_SECURITY_CTX only. */
export const MKDIR_SECURITY: Uint8Array = hex(`
  3d000000 09000000 0400000000000000 0100000000000000 e1100000 d2040000 39300000 0100 0000
  ed010000 12000000 6e65776400
  08000000 00000000`);

/** The answer to a FUSE_NOTIFY_RETRIEVE of 100 bytes with notify_unique 4242, when the file has 5 bytes in the cache. */
export const NOTIFY_REPLY: Uint8Array = hex(`
  55000000 29000000 9210000000000000 0200000000000000 00000000 00000000 00000000 0000 0000
  0000000000000000 0000000000000000 05000000 00000000 0000000000000000 0000000000000000
  68656c6c6f`);

/** A LOOKUP of "f" in the memory of an io_uring entry: header region and payload. */
export const URING_LOOKUP: { readonly header: Uint8Array; readonly payload: Uint8Array; readonly payloadLength: number } = {
  header: hex(`
    2a000000 01000000 0400000000000000 0100000000000000 00000000 00000000 39300000 0000 0000 ${'00'.repeat(88)}
    ${'ff'.repeat(128)}
    0000000000000000 0400000000000000 02000000 00000000 0000000000000000`),
  payload: hex(`6600 ${'aa'.repeat(30)}`),
  payloadLength: 2,
};

/** A GETATTR without a handle, its interrupt, and its copy after FUSE_NOTIFY_RESEND. */
export const GETATTR: Uint8Array = hex(`
  38000000 03000000 0600000000000000 0100000000000000 e8030000 e8030000 39300000 0000 0000
  00000000 00000000 0000000000000000`);
export const GETATTR_INTERRUPT: Uint8Array = hex(`
  30000000 24000000 0700000000000000 0000000000000000 00000000 00000000 00000000 0000 0000
  0600000000000000`);
export const GETATTR_RESENT: Uint8Array = hex(`
  38000000 03000000 0600000000000080 0100000000000000 e8030000 e8030000 39300000 0000 0000
  00000000 00000000 0000000000000000`);
