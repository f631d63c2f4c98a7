import { crc32cWord } from '../../base/crc.ts';
import type { Handle } from '../../jbd2/log.ts';
import type { Timespec } from '../../vfs/attr.ts';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../vfs/uapi.ts';
import type { Ext4File } from './ext4-data.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { EXT4_EXTENTS_FL, EXT4_INDEX_FL, EXT4_INLINE_DATA_FL } from './format.ts';

/** Nothing before 1970 and no fraction. */
export const NO_TIME: Timespec = { sec: 0, nsec: 0 };

/**
 * An inode in core, of any type: the fields of its record, decoded.
 *
 * Fields are changed only behind modifyInode() (inode-table.ts), in a handle; the handle writes the record when it stops. Fields that nothing
 * but the log's lock protects may have changed after every wait without that lock.
 */
export class Ext4Inode {
  readonly sb: Ext4Sb;
  readonly ino: number;
  generation = 0;
  /** Type and permissions. */
  mode = 0;
  uid = 0;
  gid = 0;
  projid = 0;
  nlink = 0;
  /** i_disksize: what the record says, and a crash leaves. Bytes. */
  size = 0;
  /** Space taken, units of 512 bytes, whatever the record counts in. */
  blocks = 0;
  /** EXT4_*_FL. */
  flags = 0;
  /** i_version. */
  version = 0;
  atime: Timespec = NO_TIME;
  mtime: Timespec = NO_TIME;
  ctime: Timespec = NO_TIME;
  /** Undefined where the record has no room for it. */
  crtime: Timespec | undefined = undefined;
  /** Time of deletion, or the next orphan while it is on the orphan list. */
  dtime = 0;
  /** Block of extended attributes, 0: none. */
  fileAcl = 0;
  /** Bytes used of the record behind the first 128. */
  extraIsize = 0;
  /** i_block: 60 bytes, the inode's own copy. Extent root, block pointers, target of a link, device number, inline data. */
  iBlock: Uint8Array = new Uint8Array(60);
  /** What lies behind the extra fields up to the end of the record: attributes. The inode's own copy. */
  ea: Uint8Array = new Uint8Array(0);

  // In core only.
  /** The handle that has it under modifyInode. */
  handle: Handle | undefined = undefined;
  /** Its block map was changed in that handle. */
  isMapChanged = false;
  /** Times changed that are not in the record yet. */
  isLazy = false;
  /** The last transaction that changed the record, and that changed what reading the data takes. */
  syncTid = 0;
  datasyncTid = 0;
  /** Regular files: the engine's inode, while somebody is interested in the data. */
  file: Ext4File | undefined = undefined;
  /** link(2) may give it its first name: made by tmpfile, without O_EXCL. */
  isLinkable = false;
  /** It was cut to nothing, and is written anew. */
  wasTruncated = false;
  /** Its end in core is under way. */
  isLeaving = false;
  /** Lookups that the faces hold, and open files. */
  nlookup = 0;
  opens = 0;

  constructor(sb: Ext4Sb, ino: number) {
    this.sb = sb;
    this.ino = ino;
  }

  /** S_IFMT bits. */
  get type(): number {
    return this.mode & S_IFMT;
  }

  get isDirectory(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR;
  }

  get isRegular(): boolean {
    return (this.mode & S_IFMT) === S_IFREG;
  }

  get isSymlink(): boolean {
    return (this.mode & S_IFMT) === S_IFLNK;
  }

  /** Mapped by an extent tree, otherwise by block pointers (if it has blocks at all). */
  get hasExtents(): boolean {
    return (this.flags & EXT4_EXTENTS_FL) !== 0;
  }

  get hasInlineData(): boolean {
    return (this.flags & EXT4_INLINE_DATA_FL) !== 0;
  }

  get isIndexed(): boolean {
    return (this.flags & EXT4_INDEX_FL) !== 0;
  }

  /** Start of the checksum of everything that belongs to this inode: its record, tree blocks and directory blocks. */
  get csumSeed(): number {
    return crc32cWord(crc32cWord(this.sb.csumSeed, this.ino), this.generation);
  }

  /** Where errors are. */
  get place(): string {
    return `${this.sb.bdev.name}, inode ${this.ino}`;
  }
}
