import type { ImageOptions } from '../image/image.ts';
import { UsageError } from './usage-error.ts';

type Draft = { -readonly [Name in keyof ImageOptions]: ImageOptions[Name] };

/** One word of -o for images, as fuse2fs and the kernel's ext4 have it. */
export interface ImageWord {
  readonly name: string;
  /** Name of its value; absent: it has none. */
  readonly value?: string;
  readonly meaning: string;
  /** False for a value that means nothing. */
  readonly apply: (options: Draft, value: string) => boolean;
}

const ERRORS = ['continue', 'remount-ro'] as const;
const DATA = ['ordered', 'writeback', 'journal'] as const;
/** Types of quota, as ext4 numbers them. */
const [USER, GROUP, PROJECT] = [0, 1, 2];

const taken = (): boolean => true;

export const IMAGE_WORDS: readonly ImageWord[] = [
  { name: 'part', value: 'N', meaning: 'partition N of the image, as Linux counts them', apply: number('partition', 1) },
  { name: 'offset', value: 'BYTES', meaning: 'the filesystem begins there', apply: number('offset', 0) },
  { name: 'sizelimit', value: 'BYTES', meaning: 'and is so long', apply: number('size', 1) },
  ...['norecovery', 'noload'].map((name) => ({ name, meaning: 'read-only, without what is in the journal only', apply: setNoRecovery })),
  {
    name: 'errors',
    value: 'continue|remount-ro',
    meaning: 'what follows where the image turns out to be damaged; by default what its superblock says',
    apply: choice('errors', ERRORS),
  },
  {
    name: 'data',
    value: 'ordered|writeback|journal',
    meaning: 'how file data is kept in step with metadata; by default what the superblock says, else ordered',
    apply: choice('data', DATA),
  },
  {
    name: 'commit',
    value: 'SECONDS',
    meaning: 'a change is in the journal after so long, at most; by default 5',
    apply: number('commitInterval', 1),
  },
  {
    name: 'journal_path',
    value: 'FILE',
    meaning: 'file or device with the external journal',
    apply: (options, value) => {
      options.journal = value;
      return value !== '';
    },
  },
  ...(
    [
      ['usrquota', USER],
      ['grpquota', GROUP],
      ['prjquota', PROJECT],
    ] as const
  ).map(([name, type]) => ({
    name,
    meaning: 'limits of that quota are kept to; usage is always counted',
    apply: (options: Draft): boolean => {
      options.enforceQuota = [...(options.enforceQuota ?? []).filter((other) => other !== type), type];
      return true;
    },
  })),
  ...['block_validity', 'user_xattr', 'acl'].map((name) => ({ name, meaning: 'what happens anyway', apply: taken })),
  { name: 'noblock_validity', meaning: 'has no effect: blocks of metadata are always kept apart from data', apply: taken },
];

function setNoRecovery(options: Draft): boolean {
  options.noRecovery = true;
  return true;
}

/** A whole number, from `least` on. */
function number(option: 'partition' | 'offset' | 'size' | 'commitInterval', least: number): ImageWord['apply'] {
  return (options, value) => {
    const count = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    options[option] = count;
    return Number.isSafeInteger(count) && count >= least;
  };
}

function choice<K extends 'errors' | 'data'>(option: K, choices: readonly NonNullable<ImageOptions[K]>[]): ImageWord['apply'] {
  return (options, value) => {
    const found = choices.find((each) => each === value);
    if (found !== undefined) (options as { [key in K]: typeof found })[option] = found;
    return found !== undefined;
  };
}

/**
 * Takes the words for images out of the values of -o.
 *
 * Shape:   what they ask for, and the words that are left, which are those of any mount.
 * Errors:  UsageError with the word, also for one of an image where the source is none.
 */
export function imageOptionsOf(
  values: readonly string[],
  isImage: boolean,
  command: string,
): { readonly image: ImageOptions; readonly rest: readonly string[] } {
  const image: Draft = {};
  const rest: string[] = [];
  for (const word of values.flatMap((value) => value.split(','))) {
    const [name = '', ...more] = word.split('=');
    const row = IMAGE_WORDS.find((known) => known.name === name);
    if (row === undefined) {
      rest.push(word);
      continue;
    }
    if (!isImage) throw new UsageError(`mount option '${word}' is for images, and SOURCE is none`, command);
    if ((row.value === undefined) !== (more.length === 0) || !row.apply(image, more.join('='))) {
      const form = row.value === undefined ? row.name : `${row.name}=${row.value}`;
      throw new UsageError(`mount option '${word}'; there is ${form}`, command);
    }
  }
  if (image.partition !== undefined && (image.offset !== undefined || image.size !== undefined)) {
    throw new UsageError('part= says where the filesystem is, and so do offset= and sizelimit=', command);
  }
  return { image, rest };
}
