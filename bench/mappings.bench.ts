// What one more mapping costs: a file in extents of 1 MiB against the same file in extents of 4 KiB, 256 times as many mappings for the
// same bytes; and at each, blocks of 4 KiB against blocks of 512 bytes, eight times as many blocks for the same mappings. Time is to grow
// with the mappings, not with the blocks.

import { ExtentFile, now } from './support/extent-file.ts';
import { compare, KIB, MIB, type Result, type Side, scaled, spread, table } from './support/harness.ts';

const SIZE = scaled(64 * MIB, MIB);
const data = new Uint8Array(MIB).fill(0x5a);
const into = new Uint8Array(MIB);
const MANY = MIB / (4 * KIB);

interface Variant {
  readonly name: string;
  readonly mappings: number;
  readonly blockSize: number;
  readonly file: ExtentFile;
}

const variants: Variant[] = [];
for (const mappings of [1, MANY]) {
  for (const blockSize of [4096, 512]) {
    const file = new ExtentFile({
      size: SIZE,
      blockSize,
      extentSize: MIB / mappings,
      isScattered: true,
      populate: true,
      readaheadMax: MIB,
    });
    const name = `${mappings} mapping${mappings === 1 ? '' : 's'}/MiB, block ${blockSize}`;
    variants.push({ name, mappings, blockSize, file });
  }
}

function write({ file }: Variant): void {
  for (let pos = 0; pos < SIZE; pos += MIB) now(file.write(pos, data));
}

function read({ file }: Variant): void {
  for (let pos = 0; pos < SIZE; pos += MIB) if (now(file.read(pos, into)) !== MIB) throw new Error(`short read at ${pos}`);
}

/** The file cached in folios of 1 MiB, whatever its extents, clean. */
function readIn(variant: Variant): void {
  now(variant.file.drop());
  read(variant);
}

const operations: { readonly title: string; side(variant: Variant): Side }[] = [
  {
    title: 'write, nothing cached',
    side: (variant) => ({ name: variant.name, before: () => variant.file.drop(), run: () => write(variant) }),
  },
  {
    title: 'write, file cached',
    side: (variant) => ({ name: variant.name, before: () => readIn(variant), run: () => write(variant) }),
  },
  {
    title: 'writeback',
    side: (variant) => ({
      name: variant.name,
      before: () => {
        readIn(variant);
        write(variant);
      },
      run: () => variant.file.sync(),
    }),
  },
  {
    title: 'read, nothing cached',
    side: (variant) => ({ name: variant.name, before: () => variant.file.drop(), run: () => read(variant) }),
  },
];

const rows: Record<string, string | number>[] = [];
for (const { title, side } of operations) {
  const result = await compare({
    title: `${title}, 1 MiB a call`,
    count: SIZE / MIB,
    unit: 'MiB',
    sides: variants.map(side),
    pairs: [
      [(variants[2] as Variant).name, (variants[0] as Variant).name],
      [(variants[1] as Variant).name, (variants[0] as Variant).name],
      [(variants[3] as Variant).name, (variants[2] as Variant).name],
    ],
    notes: [`file of ${SIZE / MIB} MiB on a memory device; neighbouring extents of the file are no neighbours on the device`],
  });
  rows.push(row(title, result));
}

function row(title: string, { samples }: Result): Record<string, string | number> {
  const perMib = (index: number) => (spread(samples.get((variants[index] as Variant).name) as number[]).median * 1000) / (SIZE / MIB);
  const more = (few: number, many: number) => (((perMib(many) - perMib(few)) * 1000) / (MANY - 1)).toFixed(0);
  return {
    operation: title,
    'us/MiB, 1 mapping': perMib(0).toFixed(1),
    [`us/MiB, ${MANY} mappings`]: perMib(2).toFixed(1),
    'ns for one more mapping': more(0, 2),
    'the same, block 512': more(1, 3),
    'block 512 / 4096, 1 mapping': (perMib(1) / perMib(0)).toFixed(2),
    [`block 512 / 4096, ${MANY} mappings`]: (perMib(3) / perMib(2)).toFixed(2),
  };
}
table('the cost of one more mapping', rows, [
  'medians; each more mapping is one more request to the device too, and where nothing is cached a write makes one folio for each',
]);
