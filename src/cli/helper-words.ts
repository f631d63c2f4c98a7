import { UsageError } from './usage-error.ts';

/** Words of fstab that are for mount(8) and systemd, and say nothing to a filesystem. Source: mount(8), systemd.mount(5). */
const FOR_OTHERS = /^(?:defaults|auto|noauto|user|nouser|users|owner|group|nofail|_netdev|uhelper=.*|helper=.*|comment=.*|[xX]-.*|X_.*)$/;

/**
 * The words of `iomap` for those that mount(8) gives a helper: SOURCE DIR [-sfnv] [-o WORD,...] [-t TYPE].
 *
 * Shape:   undefined where nothing is to be done, with -f.
 * Errors:  UsageError.
 */
export function helperWords(given: readonly string[]): string[] | undefined {
  const operands: string[] = [];
  const options: string[] = [];
  let isDry = false;
  for (let i = 0; i < given.length; i++) {
    const word = given[i] as string;
    if (word === '-o' || word === '-t' || word === '-N') {
      const value = given[++i];
      if (value === undefined) throw new UsageError(`${word} takes a value`);
      if (word === '-o') options.push(...value.split(',').filter((each) => each !== '' && !FOR_OTHERS.test(each)));
    } else if (/^-[sfnv]+$/.test(word)) isDry ||= word.includes('f');
    else if (word.startsWith('-')) throw new UsageError(`option '${word}' is unknown`);
    else operands.push(word);
  }
  if (operands.length !== 2) throw new UsageError('usage: mount.fuse.iomap SOURCE DIR [-sfnv] [-o WORD,...]');
  if (isDry) return undefined;
  return ['mount', ...(options.length === 0 ? [] : ['-o', options.join(',')]), '--', ...operands];
}
