import { Buffer } from 'node:buffer';
import { pathToFileURL } from 'node:url';
import type { Cases, Scene, Untyped } from './scene.ts';

// watch: what a script of changes is told as.

/**
 * The events of a script of changes. A last change, known to be told, ends the watch; equal events one after the other count as one, since
 * the kernel merges them when they are read late.
 */
const watched = async (t: Scene, name: string, script: () => Promise<unknown>, options: Untyped = {}) => {
  const last = options.encoding === 'hex' ? '7a7a7a' : 'zzz';
  const controller = new AbortController();
  const told: string[] = [];
  const watcher = t.fs.watch(t.at(name), { ...options, signal: controller.signal });
  const done = t.outcome(async () => {
    try {
      for await (const { eventType, filename } of watcher) {
        if (String(filename) === last) return 'ended';
        const event = `${eventType} ${filename}${filename instanceof Uint8Array ? ' as bytes' : ''}`;
        if (told.at(-1) !== event) told.push(event);
      }
      return 'finished';
    } finally {
      controller.abort();
    }
  });
  // The watch begins with the first turn of the iterator, not with the call.
  await new Promise((resolve) => setImmediate(resolve));
  await script();
  await t.fs.writeFile(t.at(`${name}/zzz`), '');
  const end = await done;
  await t.fs.unlink(t.at(`${name}/zzz`));
  return { told, end };
};

export const watchCases: Cases = {
  'watch: file is made': (t) => watched(t, 'hollow', () => t.fs.writeFile(t.at('hollow/new'), 'text')),
  'watch: file is written': (t) => watched(t, 'dir', () => t.fs.appendFile(t.at('dir/a'), 'text')),
  'watch: file is removed': (t) => watched(t, 'dir', () => t.fs.unlink(t.at('dir/a'))),
  'watch: file is renamed': (t) => watched(t, 'dir', () => t.fs.rename(t.at('dir/a'), t.at('dir/c'))),
  'watch: file moves in': (t) => watched(t, 'dir', () => t.fs.rename(t.at('file'), t.at('dir/c'))),
  'watch: file moves out': (t) => watched(t, 'dir', () => t.fs.rename(t.at('dir/a'), t.at('new'))),
  'watch: mode changes': (t) => watched(t, 'dir', () => t.fs.chmod(t.at('dir/a'), 0o600)),
  'watch: times change': (t) => watched(t, 'dir', () => t.fs.utimes(t.at('dir/a'), 1, 2)),
  'watch: file is cut': (t) => watched(t, 'dir', () => t.fs.truncate(t.at('dir/a'), 0)),
  'watch: directory is made and removed': (t) =>
    watched(t, 'dir', async () => {
      await t.fs.mkdir(t.at('dir/new'));
      await t.fs.rmdir(t.at('dir/new'));
    }),
  'watch: symbolic link is made': (t) => watched(t, 'dir', () => t.fs.symlink('a', t.at('dir/new'))),
  'watch: second name is made': (t) => watched(t, 'dir', () => t.fs.link(t.at('file'), t.at('dir/new'))),
  'watch: what lies below is not told': (t) => watched(t, 'dir', () => t.fs.writeFile(t.at('dir/sub/c'), 'text')),
  'watch: reading is not told': (t) => watched(t, 'dir', () => t.fs.readFile(t.at('dir/a'))),
  'watch: directory by a link': (t) => watched(t, 'dirlink', () => t.fs.appendFile(t.at('dir/a'), 'text')),
  'watch: names as bytes': (t) => watched(t, 'dir', () => t.fs.appendFile(t.at('dir/a'), 'text'), { encoding: 'buffer' }),
  'watch: names in hex': (t) => watched(t, 'dir', () => t.fs.appendFile(t.at('dir/a'), 'text'), { encoding: 'hex' }),
  'watch: one file': async (t) => {
    const controller = new AbortController();
    const watcher = t.fs.watch(t.at('file'), { signal: controller.signal })[Symbol.asyncIterator]();
    const first = watcher.next();
    await new Promise((resolve) => setImmediate(resolve));
    await t.fs.appendFile(t.at('file'), 'more');
    const told = await first;
    controller.abort();
    return { told, end: await t.outcome(() => drain(watcher)) };
  },
  'watch: path as a URL': async (t) => {
    const controller = new AbortController();
    const watcher = t.fs.watch(pathToFileURL(t.at('file')), { signal: controller.signal })[Symbol.asyncIterator]();
    const first = watcher.next();
    await new Promise((resolve) => setImmediate(resolve));
    await t.fs.appendFile(t.at('file'), 'more');
    const told = await first;
    await watcher.return();
    return told;
  },
  'watch: missing': (t) => t.fs.watch(t.at('missing'))[Symbol.asyncIterator]().next(),
  'watch: below a file': (t) => t.fs.watch(t.at('file/x'))[Symbol.asyncIterator]().next(),
  'watch: loop': (t) => t.fs.watch(t.at('loop'))[Symbol.asyncIterator]().next(),
  'watch: aborted before': (t) => t.fs.watch(t.at('dir'), { signal: AbortSignal.abort() })[Symbol.asyncIterator]().next(),
  'watch: aborted for a reason': (t) =>
    t.fs
      .watch(t.at('dir'), { signal: AbortSignal.abort(new TypeError('reason')) })
      [Symbol.asyncIterator]()
      .next(),
  'watch: aborted while it waits': (t) => {
    const controller = new AbortController();
    const next = t.fs.watch(t.at('dir'), { signal: controller.signal })[Symbol.asyncIterator]().next();
    setImmediate(() => controller.abort());
    return next;
  },
  'watch: what is no path': (t) =>
    t.each([undefined, null, 1, {}, 'a\0b', Buffer.from('a\0b')], (path) => t.fs.watch(path)[Symbol.asyncIterator]().next()),
  'watch: what is no options': (t) => t.each([1, true, null], (options) => once(t.fs.watch(t.at('missing'), options))),
  'watch: what is no option': (t) =>
    t.each(
      [
        { persistent: 1 },
        { recursive: 'x' },
        { encoding: 'no-encoding' },
        { signal: 1 },
        { signal: {} },
        { maxQueue: 'x' },
        { overflow: 'x' },
      ],
      (options) => once(t.fs.watch(t.at('missing'), options)),
    ),
};

const once = (iterable: Untyped) => iterable[Symbol.asyncIterator]().next();

const drain = async (iterator: Untyped) => {
  while (!(await iterator.next()).done);
};
