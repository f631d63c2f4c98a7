import { Ext4Subject, MODEL_KINDS, type ModelKind } from './ext4-model.ts';
import { runTree } from './tree-ops.ts';

/** Inodes of 128 bytes round times, which the model of trees does not. */
const KINDS = MODEL_KINDS.filter(({ isSmall }) => isSmall !== true);

/** Runs random operations on a tree on a volume: seeds take turns with the kinds. */
export async function runExt4Tree(seed: number, trace?: (line: string) => void): Promise<void> {
  const kind = KINDS[seed % KINDS.length] as ModelKind;
  trace?.(kind.name);
  try {
    await runTree(seed, trace, (cache, clock, prng) => Ext4Subject.make(kind, cache, clock, prng));
  } catch (error) {
    throw new Error(`${kind.name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
