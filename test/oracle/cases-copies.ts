import { Buffer } from 'node:buffer';
import { pathToFileURL } from 'node:url';
import type { Cases, Scene, Untyped } from './scene.ts';

// cp: trees, and its errors of its own.

const names = ['file', 'dir', 'link', 'dirlink', 'dangling', 'loop', 'missing', 'file/', 'dir/', 'missing/x', 'file/x', 'hollow'];

const cp = (from: string, to: string, options?: Untyped) => (t: Scene) => t.fs.cp(t.at(from), t.at(to), options);

export const copyCases: Cases = {
  ...Object.fromEntries(names.map((name) => [`cp: ${name} to a new name`, cp(name, 'new')])),
  ...Object.fromEntries(names.map((name) => [`cp: ${name} to a new name, recursive`, cp(name, 'new', { recursive: true })])),
  ...Object.fromEntries(names.map((name) => [`cp: file to ${name}`, cp('other', name)])),
  ...Object.fromEntries(names.map((name) => [`cp: directory to ${name}, recursive`, cp('dir', name, { recursive: true })])),
  ...Object.fromEntries(names.map((name) => [`cp: link to ${name}`, cp('link', name, { recursive: true })])),
  'cp: into a missing directory makes it': cp('file', 'p/q/new'),
  'cp: directory into a missing directory makes it': cp('dir', 'p/q/new', { recursive: true }),
  'cp: over a file, force false': cp('file', 'other', { force: false }),
  'cp: over a file, force false and errorOnExist': cp('file', 'other', { force: false, errorOnExist: true }),
  'cp: over a file, errorOnExist but force': cp('file', 'other', { errorOnExist: true }),
  'cp: into a directory, recursive': cp('file', 'dir', { recursive: true }),
  'cp: merges directories': async (t) => {
    await t.fs.mkdir(t.at('new/sub'), { recursive: true });
    await t.fs.writeFile(t.at('new/a'), 'older');
    await t.fs.writeFile(t.at('new/sub/d'), 'd');
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true });
  },
  'cp: merges directories, force false': async (t) => {
    await t.fs.mkdir(t.at('new'));
    await t.fs.writeFile(t.at('new/a'), 'older');
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true, force: false });
  },
  'cp: merges directories, errorOnExist': async (t) => {
    await t.fs.mkdir(t.at('new'));
    await t.fs.writeFile(t.at('new/a'), 'older');
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true, force: false, errorOnExist: true });
  },
  'cp: directory over a file': cp('dir', 'file', { recursive: true }),
  // Below, there is one entry only: which of several comes first is the affair of each directory.
  'cp: directory over a file below': async (t) => {
    await t.fs.mkdir(t.at('hollow/sub'));
    await t.fs.mkdir(t.at('new'));
    await t.fs.writeFile(t.at('new/sub'), 'a file');
    await t.fs.cp(t.at('hollow'), t.at('new'), { recursive: true });
  },
  'cp: file over a directory below': async (t) => {
    await t.fs.writeFile(t.at('hollow/sub'), 'a file');
    await t.fs.mkdir(t.at('new/sub'), { recursive: true });
    await t.fs.cp(t.at('hollow'), t.at('new'), { recursive: true });
  },
  'cp: file to itself': cp('file', 'file'),
  'cp: directory to itself': cp('dir', 'dir', { recursive: true }),
  'cp: directory into itself': cp('dir', 'dir/new', { recursive: true }),
  'cp: directory into its child': cp('dir', 'dir/sub/new', { recursive: true }),
  'cp: directory to its parent': cp('dir/sub', 'dir', { recursive: true }),
  'cp: file to another name of it': async (t) => {
    await t.fs.link(t.at('file'), t.at('new'));
    await t.fs.cp(t.at('file'), t.at('new'));
  },
  'cp: file to a directory of a similar name': async (t) => {
    await t.fs.cp(t.at('dir'), t.at('dir-two'), { recursive: true });
  },
  'cp: dereference': cp('link', 'new', { dereference: true }),
  'cp: dereference, directory': cp('dirlink', 'new', { dereference: true, recursive: true }),
  'cp: dereference, dangling': cp('dangling', 'new', { dereference: true }),
  'cp: dereference, links inside': async (t) => {
    await t.fs.symlink('../file', t.at('dir/out'));
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true, dereference: true });
  },
  'cp: links inside are made absolute': async (t) => {
    await t.fs.symlink('../file', t.at('dir/out'));
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true });
  },
  'cp: links inside, verbatimSymlinks': async (t) => {
    await t.fs.symlink('../file', t.at('dir/out'));
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true, verbatimSymlinks: true });
  },
  'cp: dangling link inside': async (t) => {
    await t.fs.symlink('nowhere', t.at('dir/out'));
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true });
  },
  'cp: links inside, a second time': async (t) => {
    await t.fs.symlink('../file', t.at('dir/out'));
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true });
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true });
  },
  'cp: link to what its own target holds': async (t) => {
    await t.fs.symlink(t.at('dir/sub'), t.at('hollow/in'));
    await t.fs.mkdir(t.at('new'));
    await t.fs.symlink(t.at('dir'), t.at('new/in'));
    await t.fs.cp(t.at('hollow'), t.at('new'), { recursive: true });
  },
  'cp: link over a link to a directory above': async (t) => {
    await t.fs.symlink(t.at('dir'), t.at('hollow/in'));
    await t.fs.mkdir(t.at('new'));
    await t.fs.symlink(t.at('dir/sub'), t.at('new/in'));
    await t.fs.cp(t.at('hollow'), t.at('new'), { recursive: true });
  },
  'cp: link over a file': cp('link', 'file', { verbatimSymlinks: true }),
  'cp: link over a link': cp('link', 'dangling'),
  'cp: dereference and verbatimSymlinks': cp('link', 'new', { dereference: true, verbatimSymlinks: true }),
  'cp: mode goes with it': cp('exec', 'new'),
  'cp: mode of a directory goes with it': async (t) => {
    await t.fs.chmod(t.at('dir/sub'), 0o750);
    await t.fs.chmod(t.at('dir'), 0o700);
    await t.fs.cp(t.at('dir'), t.at('new'), { recursive: true });
  },
  'cp: file that may not be written': async (t) => {
    await t.fs.chmod(t.at('file'), 0o444);
    await t.fs.cp(t.at('file'), t.at('new'), { preserveTimestamps: true });
  },
  'cp: preserveTimestamps': async (t) => {
    await t.fs.utimes(t.at('file'), 100, 200);
    await t.fs.cp(t.at('file'), t.at('new'), { preserveTimestamps: true });
    return (await t.fs.stat(t.at('new'))).mtimeMs;
  },
  'cp: mode COPYFILE_EXCL': (t) =>
    t.each(['new', 'other'], (name) => t.fs.cp(t.at('file'), t.at(name), { mode: t.fs.constants.COPYFILE_EXCL })),
  'cp: filter': async (t) => {
    const asked: unknown[] = [];
    await t.fs.cp(t.at('dir'), t.at('new'), {
      recursive: true,
      filter: (...args: string[]) => {
        asked.push(args);
        return !args[0]?.endsWith('sub');
      },
    });
    return asked.map(String).sort();
  },
  'cp: filter refuses all': cp('dir', 'new', { recursive: true, filter: () => false }),
  'cp: filter refuses what is missing': cp('missing', 'new', { filter: () => false }),
  'cp: filter answers something': cp('file', 'new', { filter: () => 'yes' }),
  'cp: filter throws': cp('dir', 'new', {
    recursive: true,
    filter: () => {
      throw new RangeError('no');
    },
  }),
  'cp: path as a URL': (t) => t.fs.cp(pathToFileURL(t.at('dir')), pathToFileURL(t.at('new')), { recursive: true }),
  'cp: path as a Buffer': (t) => t.fs.cp(Buffer.from(t.at('file')), t.at('new')),
};

/** What only the promises have. */
export const promisesCopyCases: Cases = {
  'cp: filter by promise': cp('dir', 'new', { recursive: true, filter: async (from: string) => !from.endsWith('sub') }),
  'cp: filter rejects': cp('dir', 'new', {
    recursive: true,
    filter: async () => {
      throw new RangeError('no');
    },
  }),
};
