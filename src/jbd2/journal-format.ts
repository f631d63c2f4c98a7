import { crc32be, crc32c } from '../base/crc.ts';
import { FsError } from '../base/fs-error.ts';
import { bytes, pad, s32, struct, u8, u16, u32, u32array, u64big, type Values } from '../layout/struct.ts';

export const JBD2_MAGIC_NUMBER = 0xc03b3998;

/** Block types. */
export const JBD2_DESCRIPTOR_BLOCK = 1;
export const JBD2_COMMIT_BLOCK = 2;
export const JBD2_SUPERBLOCK_V1 = 3;
export const JBD2_SUPERBLOCK_V2 = 4;
export const JBD2_REVOKE_BLOCK = 5;

export const JBD2_FEATURE_COMPAT_CHECKSUM = 0x1;
export const JBD2_FEATURE_INCOMPAT_REVOKE = 0x1;
export const JBD2_FEATURE_INCOMPAT_64BIT = 0x2;
export const JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT = 0x4;
export const JBD2_FEATURE_INCOMPAT_CSUM_V2 = 0x8;
export const JBD2_FEATURE_INCOMPAT_CSUM_V3 = 0x10;
export const JBD2_FEATURE_INCOMPAT_FAST_COMMIT = 0x20;
const INCOMPAT_KNOWN = 0x3f;

/** Tag flags. */
export const JBD2_FLAG_ESCAPE = 1;
export const JBD2_FLAG_SAME_UUID = 2;
export const JBD2_FLAG_LAST_TAG = 8;

export const JBD2_CRC32_CHKSUM = 1;
export const JBD2_CRC32C_CHKSUM = 4;

export const JBD2_MIN_JOURNAL_BLOCKS = 1024;
export const JBD2_DEFAULT_FAST_COMMIT_BLOCKS = 256;

/** journal_header_t: start of every block of the log that is not data. Big-endian, as all of jbd2. Source: Linux include/linux/jbd2.h */
// biome-ignore format: one row per field, as the format is drawn
export const journal_header = struct('journal_header', 12, {
  h_magic:     u32(0),
  h_blocktype: u32(4),
  h_sequence:  u32(8), // transaction
}, { endian: 'big' });

/** journal_superblock_t. A version 1 superblock ends behind s_errno. */
// biome-ignore format: one row per field, as the format is drawn
export const journal_superblock = struct('journal_superblock', 1024, {
  h_magic:             u32(0),
  h_blocktype:         u32(4), // 3: version 1, 4: version 2
  h_sequence:          u32(8), // 0
  s_blocksize:         u32(0xc),
  s_maxlen:            u32(0x10), // blocks, with those of fast commits
  s_first:             u32(0x14), // first block of the log
  s_sequence:          u32(0x18), // the first transaction to be found at s_start
  s_start:             u32(0x1c), // block of the oldest live transaction; 0: the log is empty
  s_errno:             s32(0x20), // not 0: the log was aborted
  s_feature_compat:    u32(0x24),
  s_feature_incompat:  u32(0x28),
  s_feature_ro_compat: u32(0x2c),
  s_uuid:              bytes(0x30, 16),
  s_nr_users:          u32(0x40),
  s_dynsuper:          u32(0x44),
  s_max_transaction:   u32(0x48),
  s_max_trans_data:    u32(0x4c),
  s_checksum_type:     u8(0x50), // 4 with checksums of version 2 and 3
  s_padding2:          bytes(0x51, 3),
  s_num_fc_blocks:     u32(0x54), // 0: 256, if there are fast commits
  s_head:              u32(0x58), // where the next transaction begins in an empty log; 0: not said
  s_padding:           bytes(0x5c, 160),
  s_checksum:          u32(0xfc), // crc32c(~0, these 1024 bytes with this field zero)
  s_users:             bytes(0x100, 768), // 48 UUIDs
}, { endian: 'big' });

export type JournalSuperblock = Values<typeof journal_superblock>;

/** struct commit_header. */
// biome-ignore format: one row per field, as the format is drawn
export const commit_header = struct('commit_header', 60, {
  h_magic:       u32(0),
  h_blocktype:   u32(4),
  h_sequence:    u32(8),
  h_chksum_type: u8(0xc), // 1 with the checksum of version 1, else 0
  h_chksum_size: u8(0xd), // 4 with it, else 0
  h_padding:     pad(0xe, 2),
  h_chksum:      u32array(0x10, 8), // [0]: version 1 of all blocks, version 2 and 3 of this one
  h_commit_sec:  u64big(0x30),
  h_commit_nsec: u32(0x38),
}, { endian: 'big' });

/** journal_block_tag_t as it is without 64bit. */
// biome-ignore format: one row per field, as the format is drawn
export const journal_block_tag = struct('journal_block_tag', 8, {
  t_blocknr:  u32(0),
  t_checksum: u16(4), // low half of the checksum, with version 2
  t_flags:    u16(6),
}, { endian: 'big' });

/** journal_block_tag_t with 64bit. With checksums of version 2, and with neither 64bit, two bytes of nothing follow. */
// biome-ignore format: one row per field, as the format is drawn
export const journal_block_tag_64bit = struct('journal_block_tag_64bit', 12, {
  t_blocknr:      u32(0),
  t_checksum:     u16(4),
  t_flags:        u16(6),
  t_blocknr_high: u32(8),
}, { endian: 'big' });

/** journal_block_tag3_t: checksums of version 3, with and without 64bit. */
// biome-ignore format: one row per field, as the format is drawn
export const journal_block_tag3 = struct('journal_block_tag3', 16, {
  t_blocknr:      u32(0),
  t_flags:        u32(4),
  t_blocknr_high: u32(8),
  t_checksum:     u32(0xc),
}, { endian: 'big' });

/** jbd2_journal_revoke_header_t, followed by block numbers of 4 bytes, or of 8 with 64bit. */
// biome-ignore format: one row per field, as the format is drawn
export const journal_revoke_header = struct('journal_revoke_header', 16, {
  h_magic:     u32(0),
  h_blocktype: u32(4),
  h_sequence:  u32(8),
  r_count:     u32(0xc), // bytes used, these 16 too
}, { endian: 'big' });

/** One record of a revoke block. */
const revoke_record = struct('revoke_record', 4, { blocknr: u32(0) }, { endian: 'big' });
/** The same with 64bit: halves, since nothing is known of the number yet, not even that it is below 2^53. */
const revoke_record_64bit = struct('revoke_record_64bit', 8, { blocknr_high: u32(0), blocknr: u32(4) }, { endian: 'big' });

/** jbd2_journal_block_tail. */
const journal_block_tail = struct('jbd2_journal_block_tail', 4, { t_checksum: u32(0) }, { endian: 'big' });

const TAIL_SIZE = journal_block_tail.size;
const UUID_SIZE = 16;

/** A sequence number is 32 bits, and later than another if it is less than half of all numbers ahead. */
export function isTidAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

export function nextTid(tid: number): number {
  return (tid + 1) >>> 0;
}

/** One data block of a transaction: where its home is. */
export interface JournalTag {
  readonly blocknr: number;
  readonly flags: number;
  /** As far as the format keeps it. */
  readonly checksum: number;
}

export function isEscaped(tag: JournalTag): boolean {
  return (tag.flags & JBD2_FLAG_ESCAPE) !== 0;
}

/** First four bytes of `data` are the magic of the log: it is logged with zeros there. */
export function needsEscape(data: Uint8Array): boolean {
  return data[0] === 0xc0 && data[1] === 0x3b && data[2] === 0x39 && data[3] === 0x98;
}

/** Puts back the magic that was taken out for the log. */
export function restoreMagic(data: Uint8Array): void {
  data.set([0xc0, 0x3b, 0x39, 0x98]);
}

/** How the blocks of one log look: what its features and its UUID make of them. */
export class JournalFormat {
  readonly blockSize: number;
  readonly is64bit: boolean;
  /** Of the checksums: 0 is none, 1 is one for the whole transaction in its commit block. */
  readonly csumVersion: 0 | 1 | 2 | 3;
  readonly isAsync: boolean;
  readonly tagSize: number;
  /** Bytes at the end of descriptors and revoke blocks. */
  readonly tailSize: number;
  readonly #seed: number;
  readonly #header = journal_header.view();
  readonly #word: Uint8Array = new Uint8Array(4);

  constructor(sb: JournalSuperblock, blockSize: number) {
    const incompat = sb.s_feature_incompat;
    this.blockSize = blockSize;
    this.is64bit = (incompat & JBD2_FEATURE_INCOMPAT_64BIT) !== 0;
    this.isAsync = (incompat & JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT) !== 0;
    if ((incompat & JBD2_FEATURE_INCOMPAT_CSUM_V3) !== 0) this.csumVersion = 3;
    else if ((incompat & JBD2_FEATURE_INCOMPAT_CSUM_V2) !== 0) this.csumVersion = 2;
    else this.csumVersion = (sb.s_feature_compat & JBD2_FEATURE_COMPAT_CHECKSUM) !== 0 ? 1 : 0;
    this.tagSize = this.csumVersion === 3 ? 16 : 8 + (this.is64bit ? 4 : 0) + (this.csumVersion === 2 ? 2 : 0);
    this.tailSize = this.csumVersion >= 2 ? TAIL_SIZE : 0;
    this.#seed = crc32c(~0 >>> 0, sb.s_uuid);
  }

  /** Tags that a descriptor of ours holds: room for one more with a UUID is left, as other writers do. */
  get tagsPerBlock(): number {
    const room = this.blockSize - journal_header.size - UUID_SIZE - this.tailSize;
    return Math.floor(room / this.tagSize);
  }

  get revokesPerBlock(): number {
    return Math.floor((this.blockSize - journal_revoke_header.size - this.tailSize) / this.#recordSize);
  }

  get #recordSize(): number {
    return this.is64bit ? 8 : 4;
  }

  /** The type of a block of transaction `tid`; 0 if it is none. */
  typeOf(block: Uint8Array, tid: number): number {
    const header = this.#header.at(block);
    return header.h_magic === JBD2_MAGIC_NUMBER && header.h_sequence === tid ? header.h_blocktype : 0;
  }

  newBlock(type: number, tid: number): Uint8Array {
    const block = new Uint8Array(this.blockSize);
    journal_header.write(block, 0, { h_magic: JBD2_MAGIC_NUMBER, h_blocktype: type, h_sequence: tid });
    return block;
  }

  /** The tags of a descriptor, at most as many as fit into it. */
  readTags(block: Uint8Array): JournalTag[] {
    const tags: JournalTag[] = [];
    const end = this.blockSize - this.tailSize;
    for (let at = journal_header.size; at + this.tagSize <= end; at += this.tagSize) {
      const tag = this.#readTag(block, at);
      tags.push(tag);
      if ((tag.flags & JBD2_FLAG_SAME_UUID) === 0) at += UUID_SIZE;
      if ((tag.flags & JBD2_FLAG_LAST_TAG) !== 0) break;
    }
    return tags;
  }

  #readTag(block: Uint8Array, at: number): JournalTag {
    if (this.csumVersion === 3) {
      const tag = journal_block_tag3.read(block, at);
      return { blocknr: this.#blocknr(tag.t_blocknr, tag.t_blocknr_high), flags: tag.t_flags, checksum: tag.t_checksum };
    }
    if (this.is64bit) {
      const tag = journal_block_tag_64bit.read(block, at);
      return { blocknr: this.#blocknr(tag.t_blocknr, tag.t_blocknr_high), flags: tag.t_flags, checksum: tag.t_checksum };
    }
    const tag = journal_block_tag.read(block, at);
    return { blocknr: tag.t_blocknr, flags: tag.t_flags, checksum: tag.t_checksum };
  }

  #blocknr(low: number, high: number): number {
    return this.is64bit ? high * 2 ** 32 + low : low;
  }

  /** A descriptor of up to tagsPerBlock tags, sealed. Escape is the only flag that is taken from a tag. */
  descriptor(tid: number, tags: readonly JournalTag[]): Uint8Array {
    const block = this.newBlock(JBD2_DESCRIPTOR_BLOCK, tid);
    let at = journal_header.size;
    tags.forEach((tag, index) => {
      // The UUID that follows the first tag stays zero, as the kernel leaves it.
      const flags =
        (tag.flags & JBD2_FLAG_ESCAPE) | (index > 0 ? JBD2_FLAG_SAME_UUID : 0) | (index === tags.length - 1 ? JBD2_FLAG_LAST_TAG : 0);
      this.#writeTag(block, at, tag, flags);
      at += this.tagSize + (index === 0 ? UUID_SIZE : 0);
    });
    this.sealTail(block);
    return block;
  }

  #writeTag(block: Uint8Array, at: number, { blocknr, checksum }: JournalTag, t_flags: number): void {
    const t_blocknr = blocknr % 2 ** 32;
    const t_blocknr_high = Math.floor(blocknr / 2 ** 32);
    const t_checksum = this.csumVersion >= 2 ? checksum : 0;
    if (this.csumVersion === 3) journal_block_tag3.write(block, at, { t_blocknr, t_flags, t_blocknr_high, t_checksum });
    else if (this.is64bit) journal_block_tag_64bit.write(block, at, { t_blocknr, t_checksum, t_flags, t_blocknr_high });
    else journal_block_tag.write(block, at, { t_blocknr, t_checksum, t_flags });
  }

  /** The block numbers of a revoke block. Errors: EINVAL for a count that does not fit the block. */
  readRevokes(block: Uint8Array): number[] {
    const { r_count } = journal_revoke_header.read(block);
    if (r_count < journal_revoke_header.size || r_count > this.blockSize - this.tailSize) {
      throw new FsError('EINVAL', 'mount', { detail: `journal: a revoke block of ${r_count} bytes` });
    }
    const blocknrs: number[] = [];
    for (let at = journal_revoke_header.size; at + this.#recordSize <= r_count; at += this.#recordSize) {
      if (this.is64bit) {
        const { blocknr_high, blocknr } = revoke_record_64bit.read(block, at);
        blocknrs.push(this.#blocknr(blocknr, blocknr_high));
      } else {
        blocknrs.push(revoke_record.read(block, at).blocknr);
      }
    }
    return blocknrs;
  }

  /** A revoke block of up to revokesPerBlock block numbers, sealed. */
  revokeBlock(tid: number, blocknrs: readonly number[]): Uint8Array {
    const block = new Uint8Array(this.blockSize);
    journal_revoke_header.write(block, 0, {
      h_magic: JBD2_MAGIC_NUMBER,
      h_blocktype: JBD2_REVOKE_BLOCK,
      h_sequence: tid,
      r_count: journal_revoke_header.size + blocknrs.length * this.#recordSize,
    });
    blocknrs.forEach((blocknr, index) => {
      const at = journal_revoke_header.size + index * this.#recordSize;
      if (this.is64bit) revoke_record_64bit.write(block, at, { blocknr_high: Math.floor(blocknr / 2 ** 32), blocknr: blocknr % 2 ** 32 });
      else revoke_record.write(block, at, { blocknr });
    });
    this.sealTail(block);
    return block;
  }

  /** A commit block, sealed. `crc`: version 1's, over all descriptors and data. */
  commitBlock(tid: number, sec: number, nsec: number, crc: number): Uint8Array {
    const block = new Uint8Array(this.blockSize);
    const isV1 = this.csumVersion === 1;
    const h_chksum = new Array<number>(8).fill(0);
    if (isV1) h_chksum[0] = crc;
    const fields = {
      h_magic: JBD2_MAGIC_NUMBER,
      h_blocktype: JBD2_COMMIT_BLOCK,
      h_sequence: tid,
      h_chksum_type: isV1 ? JBD2_CRC32_CHKSUM : 0,
      h_chksum_size: isV1 ? 4 : 0,
      h_chksum,
      h_commit_sec: BigInt(sec),
      h_commit_nsec: nsec,
    };
    commit_header.write(block, 0, fields);
    if (this.csumVersion >= 2) {
      h_chksum[0] = crc32c(this.#seed, block);
      commit_header.write(block, 0, fields);
    }
    return block;
  }

  /** Is the checksum of a commit block right? Always, before version 2. */
  verifyCommit(block: Uint8Array): boolean {
    if (this.csumVersion < 2) return true;
    const copy = block.slice();
    const { h_chksum } = commit_header.read(copy);
    copy.fill(0, 0x10, 0x14);
    if (crc32c(this.#seed, copy) === h_chksum[0]) return true;
    // A device may have written only the sector that matters; the rest is zero in a block that was written whole.
    copy.fill(0, commit_header.size);
    return crc32c(this.#seed, copy) === h_chksum[0];
  }

  /** Is the checksum of a descriptor or a revoke block right? Always, before version 2. */
  verifyTail(block: Uint8Array): boolean {
    if (this.tailSize === 0) return true;
    const at = this.blockSize - TAIL_SIZE;
    return journal_block_tail.read(block, at).t_checksum === this.#tailCsum(block);
  }

  sealTail(block: Uint8Array): void {
    if (this.tailSize > 0) journal_block_tail.write(block, this.blockSize - TAIL_SIZE, { t_checksum: this.#tailCsum(block) });
  }

  #tailCsum(block: Uint8Array): number {
    this.#word.fill(0);
    return crc32c(crc32c(this.#seed, block, 0, this.blockSize - TAIL_SIZE), this.#word);
  }

  /** What a tag says of its data, as stored in the log. 0 before version 2. */
  dataCsum(tid: number, data: Uint8Array): number {
    if (this.csumVersion < 2) return 0;
    journal_block_tail.write(this.#word, 0, { t_checksum: tid });
    const csum = crc32c(crc32c(this.#seed, this.#word), data);
    return this.csumVersion === 3 ? csum : csum & 0xffff;
  }

  /** Version 1: the checksum so far, and one more descriptor or data block. Begins with ~0. */
  addToTransaction(crc: number, block: Uint8Array): number {
    return crc32be(crc, block);
  }
}

/** What a superblock says of the log, after all checks. */
export interface JournalGeometry {
  readonly sb: JournalSuperblock;
  /** The log is the blocks [first, last) of the journal. */
  readonly first: number;
  readonly last: number;
  /** Blocks [fcFirst, fcLast) are for fast commits; none where they are equal. */
  readonly fcFirst: number;
  readonly fcLast: number;
  /** A feature is set that only readers may ignore. */
  readonly isReadOnly: boolean;
}

/**
 * Reads and checks the superblock of a journal.
 *
 * Shape:  `raw` has 1024 bytes or more; `blocks`: how many the journal's file or device has.
 * Errors: EUCLEAN for nonsense, EBADMSG for a wrong checksum, EOPNOTSUPP for a feature that we do not know.
 */
export function readJournalSuperblock(raw: Uint8Array, blockSize: number, blocks: number): JournalGeometry {
  const sb = journal_superblock.read(raw);
  const type = sb.h_blocktype;
  if (sb.h_magic !== JBD2_MAGIC_NUMBER || (type !== JBD2_SUPERBLOCK_V1 && type !== JBD2_SUPERBLOCK_V2)) throw malformed('no superblock');
  if (type === JBD2_SUPERBLOCK_V1) clearVersion2(sb);
  const { s_feature_compat: compat, s_feature_incompat: incompat } = sb;

  if ((incompat & ~INCOMPAT_KNOWN) !== 0)
    throw new FsError('EOPNOTSUPP', 'mount', { detail: `journal: incompat features 0x${incompat.toString(16)}` });
  const versions =
    (compat & JBD2_FEATURE_COMPAT_CHECKSUM) +
    ((incompat & JBD2_FEATURE_INCOMPAT_CSUM_V2) !== 0 ? 1 : 0) +
    ((incompat & JBD2_FEATURE_INCOMPAT_CSUM_V3) !== 0 ? 1 : 0);
  if (versions > 1) throw malformed('checksums of two versions');
  if ((incompat & (JBD2_FEATURE_INCOMPAT_CSUM_V2 | JBD2_FEATURE_INCOMPAT_CSUM_V3)) !== 0) {
    if (sb.s_checksum_type !== JBD2_CRC32C_CHKSUM) throw malformed(`checksum type ${sb.s_checksum_type}`);
    if (superblockCsum(raw) !== sb.s_checksum) throw new FsError('EBADMSG', 'mount', { detail: 'journal: checksum of the superblock' });
  }

  if (sb.s_blocksize !== blockSize) throw malformed(`block size ${sb.s_blocksize}, not ${blockSize}`);
  if (sb.s_maxlen > blocks) throw malformed(`${sb.s_maxlen} blocks, there are ${blocks}`);
  const fcBlocks =
    (incompat & JBD2_FEATURE_INCOMPAT_FAST_COMMIT) === 0
      ? 0
      : sb.s_num_fc_blocks === 0
        ? JBD2_DEFAULT_FAST_COMMIT_BLOCKS
        : sb.s_num_fc_blocks;
  const last = sb.s_maxlen - fcBlocks;
  if (last < JBD2_MIN_JOURNAL_BLOCKS) throw malformed(`${sb.s_maxlen} blocks, ${fcBlocks} for fast commits`);
  if (sb.s_first < 1 || sb.s_first >= last) throw malformed(`the log begins at block ${sb.s_first} of ${last}`);
  if (sb.s_start !== 0 && (sb.s_start < sb.s_first || sb.s_start >= last)) throw malformed(`start at block ${sb.s_start} of ${last}`);
  // The first block behind the log is not used by writers of fast commits.
  return {
    sb,
    first: sb.s_first,
    last,
    fcFirst: Math.min(last + 1, sb.s_maxlen),
    fcLast: fcBlocks === 0 ? Math.min(last + 1, sb.s_maxlen) : sb.s_maxlen,
    isReadOnly: sb.s_feature_ro_compat !== 0,
  };
}

/** What the first version of a superblock does not have. */
function clearVersion2(sb: JournalSuperblock): void {
  const blank = journal_superblock.read(new Uint8Array(journal_superblock.size));
  const { h_magic, h_blocktype, h_sequence, s_blocksize, s_maxlen, s_first, s_sequence, s_start, s_errno } = sb;
  Object.assign(sb, blank, { h_magic, h_blocktype, h_sequence, s_blocksize, s_maxlen, s_first, s_sequence, s_start, s_errno });
}

function malformed(detail: string): FsError {
  return new FsError('EUCLEAN', 'mount', { detail: `journal: ${detail}` });
}

function superblockCsum(raw: Uint8Array): number {
  const copy = raw.slice(0, journal_superblock.size);
  copy.fill(0, 0xfc, 0x100);
  return crc32c(~0 >>> 0, copy);
}

/** Puts a superblock at the start of `block`, with its checksum if it has the feature. What follows it there stays. */
export function writeJournalSuperblock(block: Uint8Array, sb: JournalSuperblock): void {
  journal_superblock.write(block, 0, { ...sb, s_checksum: 0 });
  if ((sb.s_feature_incompat & (JBD2_FEATURE_INCOMPAT_CSUM_V2 | JBD2_FEATURE_INCOMPAT_CSUM_V3)) === 0) return;
  journal_superblock.write(block, 0, { ...sb, s_checksum: superblockCsum(block) });
}
