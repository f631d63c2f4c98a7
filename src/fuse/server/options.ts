import { FsError } from '../../base/fs-error.ts';
import type { FileSystem } from '../../vfs/file-system.ts';
import { FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION } from '../abi/flags.ts';
import * as init from '../abi/init-flags.ts';
import type { InitReply } from '../abi/reply-encoder.ts';

const KIB = 1024;

/** What a server asks for at INIT. What the kernel does not offer is left out. Defaults are for a filesystem that changes through its mount only. */
export interface ServerOptions {
  /** Bytes of the largest WRITE. Default 1 MiB. */
  readonly maxWrite?: number;
  /** Bytes read ahead by the kernel. Default: its own, 128 KiB. */
  readonly maxReadahead?: number;
  /** Requests in the background at once. Default 64. */
  readonly maxBackground?: number;
  readonly congestionThreshold?: number;
  /** Nanoseconds: how fine times are. Default 1. */
  readonly timeGran?: number;
  /**
   * Seconds after which a request that is not answered is answered with ETIMEDOUT; what the filesystem answers later is dropped. Where the
   * kernel can do it, it ends the connection of a server that does not even do that, a while later. Locks that are waited for end too then.
   * Default: never.
   */
  readonly requestTimeout?: number;
  /**
   * The kernel's page cache holds written data back, and owns size and times meanwhile. Default: yes, unless files change elsewhere too
   * (FileSystem.changesElsewhere) or there is passthrough, which excludes it.
   */
  readonly writebackCache?: boolean;
  /** POSIX ACLs, checked by the kernel. Default: yes. */
  readonly posixAcl?: boolean;
  /** Byte-range locks and flock come here, instead of being kept in the kernel. Default: yes. */
  readonly locks?: boolean;
  /** Listings with attributes: always, where they are expected to pay, or never. Default 'auto'. */
  readonly readdirplus?: 'always' | 'auto' | 'never';
  /** Targets of symbolic links stay in the kernel's cache. Default: yes. */
  readonly cacheSymlinks?: boolean;
  /** Lookups and listings of one directory beside each other. Default: yes. */
  readonly parallelDirops?: boolean;
  /** Reads of one file beside each other. Default: yes. */
  readonly asyncRead?: boolean;
  /** Direct I/O of one call in several requests beside each other. Default: yes. */
  readonly asyncDirectIo?: boolean;
  /** Files with direct I/O can be mapped shared. Default: yes. */
  readonly directMmap?: boolean;
  /**
   * Cached data is dropped when a file is seen to have another time or size, or only by notifications, or by neither. Default 'auto'. Counts
   * without a writeback cache only.
   */
  readonly invalidation?: 'auto' | 'explicit' | 'none';
  /** OPEN truncates too, instead of a SETATTR behind it. Default: yes, unless there is no OPEN (noOpen): nobody would hear of O_TRUNC. */
  readonly atomicTruncate?: boolean;
  /** The filesystem takes set-id bits off where a request says so; otherwise the kernel does, by requests of its own. Default: yes. */
  readonly killSetId?: boolean;
  /** New inodes come with the group of their directory, where their maker has it among his supplementary groups. Default: yes. */
  readonly supplementaryGroups?: boolean;
  /** File handles can be opened after the kernel forgot the file. Default: what the filesystem says (FileSystem.isExportable). */
  readonly exportSupport?: boolean;
  /** Files, or directories, are used without being opened (ENOSYS to OPEN). Default: no. Errors: EINVAL where the filesystem keeps open files. */
  readonly noOpen?: boolean;
  readonly noOpendir?: boolean;
  /** New inodes get the security contexts of their makers, as attributes. Default: no. */
  readonly securityContext?: boolean;
  /** Files whose IoMode says so are read and written by the kernel itself. Default: no. Takes a privileged process. */
  readonly passthrough?: boolean;
  /** Filesystems below one another that passthrough may go through, 1 or 2. Default 1. */
  readonly maxStackDepth?: number;
  /** Names are remembered, so that requests under way can be told with their paths. Default: no; a name takes about 200 bytes. */
  readonly paths?: boolean;
  /** FUSE_* masks to ask for beside, and to leave out whatever else is said: those of longer forms of messages, too, that are always asked for. */
  readonly flags?: readonly number[];
  readonly withoutFlags?: readonly number[];
}

/** What was agreed on. */
export interface Agreement {
  readonly minor: number;
  readonly flags: init.InitFlags;
  /** Bytes of the largest WRITE, and of the buffer for requests. */
  readonly maxWrite: number;
  readonly bufferSize: number;
  /** Bytes of data that an answer has at most. */
  readonly maxAnswer: number;
}

/** The kernel's side of INIT. */
export interface InitOffer {
  readonly major: number;
  readonly minor: number;
  readonly max_readahead: number;
  readonly flags: number;
  readonly flags2: number;
}

/** The oldest minor that is served: from there on the messages that are used here have one form. */
const MINOR_MIN = 23;
/** Kernels ask for so much at once, whatever the largest WRITE is. */
export const ANSWER_MIN = 1024 * KIB;
/** Bytes of header and struct in front of the data of a WRITE. */
const WRITE_HEADER = 80;
/** What a kernel takes at once at most, pages of 4096 bytes. Source: Linux fs/fuse/fuse_i.h, the ceiling of fs.fuse.max_pages_limit. */
const MAX_PAGES_LIMIT = 65535;
/** Seconds after our own answer in which the kernel waits for it; it looks every 15. */
const TIMEOUT_GRACE = 15;
/** Of the longest attribute, with its name and header. */
const XATTR_MESSAGE = 65536 + 512;

/** Bytes of a receive buffer that takes everything which these options let through. */
export function bufferSize(maxWrite: number): number {
  return Math.max(8 * KIB, WRITE_HEADER + maxWrite, WRITE_HEADER + XATTR_MESSAGE);
}

export function maxWriteOf(options: ServerOptions): number {
  const { maxWrite = 1024 * KIB } = options;
  if (!Number.isInteger(maxWrite) || maxWrite < 4096 || maxWrite > MAX_PAGES_LIMIT * 4096) {
    throw new FsError('EINVAL', 'mount', { detail: `maxWrite ${maxWrite}, from 4096 to ${MAX_PAGES_LIMIT * 4096}` });
  }
  return maxWrite;
}

/** The options with the defaults that follow from the filesystem. Errors: EINVAL for those that do not go together. */
export function optionsFor(fs: FileSystem, options: ServerOptions): ServerOptions {
  const { noOpen = false, noOpendir = false, passthrough = false, maxStackDepth = 1, requestTimeout = 0 } = options;
  const refuse = (detail: string): never => {
    throw new FsError('EINVAL', 'mount', { detail });
  };
  if ((noOpen || noOpendir) && !fs.isStateless) refuse('noOpen, noOpendir: the filesystem keeps open files');
  if (noOpen && options.atomicTruncate === true) refuse('without OPEN nobody would hear of O_TRUNC');
  if (passthrough && options.writebackCache === true) refuse('passthrough and writebackCache exclude each other');
  if (maxStackDepth !== 1 && maxStackDepth !== 2) refuse(`maxStackDepth ${maxStackDepth}, 1 or 2`);
  if (!(requestTimeout >= 0) || requestTimeout > 65535 - TIMEOUT_GRACE) refuse(`requestTimeout ${requestTimeout}`);
  maxWriteOf(options);
  return { writebackCache: !passthrough && !fs.changesElsewhere, exportSupport: fs.isExportable, ...options };
}

/**
 * What INIT is answered with, and what holds from then on.
 *
 * Errors: EPROTO for a kernel that is too old.
 */
export function agree(offer: InitOffer, options: ServerOptions): { reply: InitReply; agreement: Agreement } {
  if (offer.major < FUSE_KERNEL_VERSION || (offer.major === FUSE_KERNEL_VERSION && offer.minor < MINOR_MIN)) {
    throw new FsError('EPROTO', 'mount', { detail: `FUSE ${offer.major}.${offer.minor}, from 7.${MINOR_MIN} on` });
  }
  const minor = offer.major > FUSE_KERNEL_VERSION ? FUSE_KERNEL_MINOR_VERSION : Math.min(offer.minor, FUSE_KERNEL_MINOR_VERSION);
  const maxWrite = maxWriteOf(options);
  const flags = init.initFlagsOf(...wanted(options).filter((mask) => init.hasInitFlag(offer, mask)));
  const { maxBackground = 64 } = options;
  return {
    reply: {
      major: FUSE_KERNEL_VERSION,
      minor,
      max_readahead: Math.min(offer.max_readahead, options.maxReadahead ?? offer.max_readahead),
      flags: flags.flags,
      flags2: flags.flags2,
      max_background: maxBackground,
      congestion_threshold: options.congestionThreshold ?? Math.floor((maxBackground * 3) / 4),
      max_write: maxWrite,
      time_gran: options.timeGran ?? 1,
      max_pages: Math.min(MAX_PAGES_LIMIT, Math.ceil(maxWrite / 4096)),
      max_stack_depth: init.hasInitFlag(flags, init.FUSE_PASSTHROUGH) ? (options.maxStackDepth ?? 1) : 0,
      request_timeout: init.hasInitFlag(flags, init.FUSE_REQUEST_TIMEOUT) ? Math.ceil(options.requestTimeout ?? 0) + TIMEOUT_GRACE : 0,
    },
    agreement: { minor, flags, maxWrite, bufferSize: bufferSize(maxWrite), maxAnswer: Math.max(maxWrite, ANSWER_MIN) },
  };
}

function wanted(options: ServerOptions): number[] {
  const {
    writebackCache = true,
    posixAcl = true,
    locks = true,
    readdirplus = 'auto',
    cacheSymlinks = true,
    parallelDirops = true,
    asyncRead = true,
    asyncDirectIo = true,
    directMmap = true,
    invalidation = 'auto',
    noOpen = false,
    atomicTruncate = !noOpen,
    killSetId = true,
    supplementaryGroups = true,
  } = options;
  const masks = [
    init.FUSE_BIG_WRITES,
    init.FUSE_DONT_MASK,
    init.FUSE_ABORT_ERROR,
    init.FUSE_MAX_PAGES,
    init.FUSE_SETXATTR_EXT,
    init.FUSE_INIT_EXT,
  ];
  if (asyncRead) masks.push(init.FUSE_ASYNC_READ);
  if (asyncDirectIo) masks.push(init.FUSE_ASYNC_DIO);
  if (directMmap) masks.push(init.FUSE_DIRECT_IO_ALLOW_MMAP);
  if (invalidation === 'auto') masks.push(init.FUSE_AUTO_INVAL_DATA);
  if (invalidation === 'explicit') masks.push(init.FUSE_EXPLICIT_INVAL_DATA);
  if (killSetId) masks.push(init.FUSE_HANDLE_KILLPRIV_V2);
  if (supplementaryGroups) masks.push(init.FUSE_CREATE_SUPP_GROUP);
  if (writebackCache) masks.push(init.FUSE_WRITEBACK_CACHE);
  if (posixAcl) masks.push(init.FUSE_POSIX_ACL);
  if (locks) masks.push(init.FUSE_POSIX_LOCKS, init.FUSE_FLOCK_LOCKS);
  if (readdirplus !== 'never') masks.push(init.FUSE_DO_READDIRPLUS);
  if (readdirplus === 'auto') masks.push(init.FUSE_READDIRPLUS_AUTO);
  if (cacheSymlinks) masks.push(init.FUSE_CACHE_SYMLINKS);
  if (parallelDirops) masks.push(init.FUSE_PARALLEL_DIROPS);
  if (atomicTruncate) masks.push(init.FUSE_ATOMIC_O_TRUNC);
  if (options.securityContext === true) masks.push(init.FUSE_SECURITY_CTX);
  if (options.passthrough === true) masks.push(init.FUSE_PASSTHROUGH);
  if (options.exportSupport === true) masks.push(init.FUSE_EXPORT_SUPPORT);
  else masks.push(init.FUSE_NO_EXPORT_SUPPORT);
  if ((options.requestTimeout ?? 0) > 0) masks.push(init.FUSE_REQUEST_TIMEOUT);
  const without = options.withoutFlags ?? [];
  return [...masks, ...(options.flags ?? [])].filter((mask) => !without.includes(mask));
}
