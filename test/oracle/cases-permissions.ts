import type { Cases, Scene, Subject } from './scene.ts';

// What a user may do who is not root, and owns little of the tree.
//
// Not among the calls: access, which asks for the user that started the process, and link of what is another's, which the kernel of the host
// may be told to refuse (fs.protected_hardlinks).

/** User and group of these cases. Nothing on the machine is theirs. */
export const stranger = 65533;

const calls: Record<string, (t: Scene, name: string) => unknown> = {
  'read it': (t, name) => t.fs.readFile(t.at(name)),
  'write it': (t, name) => t.fs.writeFile(t.at(name), 'x'),
  'append to it': (t, name) => t.fs.appendFile(t.at(name), 'x'),
  'cut it': (t, name) => t.fs.truncate(t.at(name), 1),
  'stat it': (t, name) => t.fs.stat(t.at(name)),
  'chmod it': (t, name) => t.fs.chmod(t.at(name), 0o777),
  'chown it': (t, name) => t.fs.chown(t.at(name), stranger, stranger),
  'chown it to nobody new': (t, name) => t.fs.chown(t.at(name), -1, -1),
  'lchown it': (t, name) => t.fs.lchown(t.at(name), stranger, stranger),
  'set its times': (t, name) => t.fs.utimes(t.at(name), 1, 2),
  'set its own times': (t, name) => t.fs.lutimes(t.at(name), 1, 2),
  'rename it': (t, name) => t.fs.rename(t.at(name), t.at('new')),
  'rename it into an open directory': (t, name) => t.fs.rename(t.at(name), t.at('open/new')),
  'remove it': (t, name) => t.fs.rm(t.at(name), { recursive: true }),
  'unlink it': (t, name) => t.fs.unlink(t.at(name)),
  'rmdir it': (t, name) => t.fs.rmdir(t.at(name)),
  'list it': (t, name) => t.fs.readdir(t.at(name)),
  'open it as a directory': async (t, name) => (await t.fs.opendir(t.at(name))).path,
  'make a file in it': (t, name) => t.fs.writeFile(t.at(`${name}/new`), 'x'),
  'make a directory in it': (t, name) => t.fs.mkdir(t.at(`${name}/new`)),
  'make a path in it': (t, name) => t.fs.mkdir(t.at(`${name}/p/q`), { recursive: true }),
  'make a link in it': (t, name) => t.fs.symlink('x', t.at(`${name}/new`)),
  'make a temporary directory in it': async (t, name) => t.fs.rmdir(await t.fs.mkdtemp(t.at(`${name}/tmp-`))),
  'stat what is in it': (t, name) => t.fs.stat(t.at(`${name}/a`)),
  'read what is in it': (t, name) => t.fs.readFile(t.at(`${name}/a`), 'utf8'),
  'unlink what is in it': (t, name) => t.fs.unlink(t.at(`${name}/a`)),
  'look for what is not in it': (t, name) => t.fs.stat(t.at(`${name}/missing`)),
  'resolve what is in it': (t, name) => t.fs.realpath(t.at(`${name}/a`)),
  'copy it': (t, name) => t.fs.copyFile(t.at(name), t.at('open/new')),
  'copy to it': (t, name) => t.fs.copyFile(t.at('open/a'), t.at(name)),
  'copy the tree': (t, name) => t.fs.cp(t.at(name), t.at('open/new'), { recursive: true }),
};

interface Standing {
  readonly mode: number;
  /** A directory has a file in it. */
  readonly isDirectory?: boolean;
  /** It is the stranger's, else root's. */
  readonly isOwn?: boolean;
}

/** What stands in the tree beside what always does. */
const standing: Record<string, Standing> = {
  open: { mode: 0o777, isDirectory: true },
  sticky: { mode: 0o1777, isDirectory: true },
  closed: { mode: 0o700, isDirectory: true },
  listed: { mode: 0o744, isDirectory: true },
  passed: { mode: 0o711, isDirectory: true },
  mine: { mode: 0o700, isDirectory: true, isOwn: true },
  'mine, but closed': { mode: 0, isDirectory: true, isOwn: true },
  secret: { mode: 0o600 },
  public: { mode: 0o666 },
  'my file': { mode: 0o600, isOwn: true },
  'my file, but closed': { mode: 0, isOwn: true },
};

/** Lays it out; has to be root. */
export function layOutPermissions({ sync: fs, root }: Subject): void {
  for (const [name, { mode, isDirectory, isOwn }] of Object.entries(standing)) {
    const path = `${root}/${name}`;
    if (isDirectory) fs.mkdirSync(path);
    fs.writeFileSync(isDirectory ? `${path}/a` : path, 'text');
    fs.chownSync(path, isOwn ? stranger : 0, isOwn ? stranger : 0);
    fs.chmodSync(path, mode);
  }
}

export const permissionCases: Cases = Object.fromEntries(
  Object.keys(standing).flatMap((name) => Object.entries(calls).map(([title, call]) => [`${name}: ${title}`, (t: Scene) => call(t, name)])),
);

/** More that only an owner or root may do. */
Object.assign(permissionCases, {
  'my file: chmod with set-group-id of a group that is not mine': async (t: Scene) => {
    await t.fs.chmod(t.at('my file'), 0o2755);
  },
  'my file: give it away': (t: Scene) => t.fs.chown(t.at('my file'), 0, -1),
  'my file: give it to a group that is not mine': (t: Scene) => t.fs.chown(t.at('my file'), -1, 12345),
  'my file: writing clears set-user-id': async (t: Scene) => {
    await t.fs.chmod(t.at('my file'), 0o4755);
    await t.fs.appendFile(t.at('my file'), 'x');
  },
  'my file: cutting clears set-user-id': async (t: Scene) => {
    await t.fs.chmod(t.at('my file'), 0o4755);
    await t.fs.truncate(t.at('my file'), 0);
  },
  'sticky: rename what is not mine': (t: Scene) => t.fs.rename(t.at('sticky/a'), t.at('sticky/b')),
  'sticky: what I made I may remove': async (t: Scene) => {
    await t.fs.writeFile(t.at('sticky/new'), 'x');
    await t.fs.unlink(t.at('sticky/new'));
  },
  'open: a new file is mine': async (t: Scene) => {
    await t.fs.writeFile(t.at('open/new'), 'x');
    return t.fs.stat(t.at('open/new'));
  },
});
