import { FsError } from '../../base/fs-error.ts';

/** How much there may be. */
export interface QuotaLimits {
  /** Bytes of file data, in whole blocks. Default 16 GiB. Past them: ENOSPC. */
  readonly bytes?: number | undefined;
  /** Files of all types. Default 2^24. */
  readonly inodes?: number | undefined;
  /** What each owner may have of it; by default all. The superuser is not limited. Past them: EDQUOT. */
  readonly userBytes?: number | undefined;
  readonly userInodes?: number | undefined;
}

interface Usage {
  blocks: number;
  inodes: number;
}

/**
 * What is taken, of the whole filesystem and by each owner.
 *
 * Invariant: `total` is the sum over `#owners`; owners of nothing have no record.
 */
export class Quota {
  readonly blocksMax: number;
  readonly inodesMax: number;
  readonly total: Usage = { blocks: 0, inodes: 0 };
  readonly #userBlocksMax: number;
  readonly #userInodesMax: number;
  readonly #owners = new Map<number, Usage>();

  constructor(limits: QuotaLimits, blockSize: number) {
    const { bytes = 16 * 2 ** 30, inodes = 2 ** 24, userBytes = Number.POSITIVE_INFINITY, userInodes = Number.POSITIVE_INFINITY } = limits;
    this.blocksMax = Math.floor(bytes / blockSize);
    this.inodesMax = inodes;
    this.#userBlocksMax = Math.floor(userBytes / blockSize);
    this.#userInodesMax = userInodes;
  }

  usageOf(uid: number): Readonly<Usage> {
    return this.#owners.get(uid) ?? { blocks: 0, inodes: 0 };
  }

  /**
   * Takes up to `wanted` blocks for an owner, at least `least` (above 0).
   *
   * Shape:   blocks taken.
   * Errors:  ENOSPC, EDQUOT where there are not even those; nothing is taken then.
   */
  takeBlocks(uid: number, wanted: number, least: number, syscall: string): number {
    const left = this.blocksMax - this.total.blocks;
    const leftOfOwner = uid === 0 ? left : this.#userBlocksMax - this.usageOf(uid).blocks;
    if (left < least) throw new FsError('ENOSPC', syscall);
    if (leftOfOwner < least) throw new FsError('EDQUOT', syscall);
    const taken = Math.min(wanted, left, leftOfOwner);
    this.#add(uid, taken, 0);
    return taken;
  }

  releaseBlocks(uid: number, count: number): void {
    this.#add(uid, -count, 0);
  }

  /** Errors: ENOSPC, EDQUOT. */
  takeInode(uid: number, syscall: string): void {
    if (this.total.inodes >= this.inodesMax) throw new FsError('ENOSPC', syscall);
    if (uid !== 0 && this.usageOf(uid).inodes >= this.#userInodesMax) throw new FsError('EDQUOT', syscall);
    this.#add(uid, 0, 1);
  }

  releaseInode(uid: number): void {
    this.#add(uid, 0, -1);
  }

  /** May a file with so many blocks become the property of `uid`? Errors: EDQUOT. */
  checkTransfer(uid: number, blocks: number, syscall: string): void {
    if (uid === 0) return;
    const { blocks: owned, inodes } = this.usageOf(uid);
    if (owned + blocks > this.#userBlocksMax || inodes + 1 > this.#userInodesMax) throw new FsError('EDQUOT', syscall);
  }

  /** One inode with its blocks changes hands. */
  transfer(from: number, to: number, blocks: number): void {
    this.#add(from, -blocks, -1);
    this.#add(to, blocks, 1);
  }

  #add(uid: number, blocks: number, inodes: number): void {
    let owner = this.#owners.get(uid);
    if (owner === undefined) {
      owner = { blocks: 0, inodes: 0 };
      this.#owners.set(uid, owner);
    }
    owner.blocks += blocks;
    owner.inodes += inodes;
    this.total.blocks += blocks;
    this.total.inodes += inodes;
    if (owner.blocks === 0 && owner.inodes === 0) this.#owners.delete(uid);
  }
}
