// The command iomap with real mounts: the compiled src/cli/main.js of this build, in processes of its own.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { Finding } from '../../src/cli/doctor-command.ts';
import { readMountTable } from '../../src/cli/mount-table.ts';
import type { MountFacts } from '../../src/cli/served-mount.ts';
import type { MountStatus } from '../../src/cli/status-command.ts';
import { Libc } from '../../src/sys/libc.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const HELPER = fileURLToPath(new URL('../../src/cli/mount-helper.js', import.meta.url));
/** Tests run in the folder of the package. */
const EMPTY_IMAGE = resolve('examples/empty-ext4.img.gz');
/** A program that runs until SIGTERM, and says when it runs. */
const UNTIL_SIGTERM = `process.on('SIGTERM', () => process.exit(42)); setInterval(() => {}, 1e6); console.log('runs')`;

function whyNot(): string | false {
  if (process.platform !== 'linux') return 'mounts are Linux mounts';
  if (process.getuid?.() !== 0) return 'mounting takes root';
  try {
    fs.closeSync(fs.openSync('/dev/fuse', fs.constants.O_RDWR));
    return false;
  } catch (error) {
    return `/dev/fuse cannot be used: ${(error as Error).message}`;
  }
}

const skip = whyNot();

interface Result {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `iomap` that runs. */
class Running {
  readonly child: ChildProcess;
  readonly result: Promise<Result>;
  #stdout = '';
  #stderr = '';

  constructor(words: readonly string[], runtimeDir: string) {
    this.child = spawn(process.execPath, [MAIN, ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, IOMAP_RUNTIME_DIR: runtimeDir, LC_ALL: 'C' },
    });
    this.child.stdout?.on('data', (piece: Buffer) => (this.#stdout += piece.toString()));
    this.child.stderr?.on('data', (piece: Buffer) => (this.#stderr += piece.toString()));
    this.result = once(this.child, 'close').then(([code, signal]) => ({ code, signal, stdout: this.#stdout, stderr: this.#stderr }));
  }

  /** Waits for text on stdout or stderr. */
  async says(pattern: RegExp): Promise<void> {
    const ended = this.result.then((result): never => {
      throw new Error(`iomap ended before it said ${pattern}: ${JSON.stringify(result)}`);
    });
    while (!pattern.test(this.#stdout + this.#stderr)) {
      const data = [this.child.stdout, this.child.stderr].map((stream) => (stream === null ? ended : once(stream, 'data')));
      await Promise.race([ended, ...data]);
    }
  }

  /** The signal, and then the end. */
  ends(signal: NodeJS.Signals): Promise<Result> {
    this.child.kill(signal);
    return this.result;
  }
}

/** A place for one test: a folder with a mount point and a registry, all of which goes afterwards. */
class Place {
  readonly folder = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'iomap-cli-')));
  readonly mnt = join(this.folder, 'mnt');
  readonly runtimeDir = join(this.folder, 'run');
  readonly #started: Running[] = [];

  constructor(t: TestContext) {
    fs.mkdirSync(this.mnt);
    t.after(() => this.#end());
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  start(...words: string[]): Running {
    const running = new Running(words, this.runtimeDir);
    this.#started.push(running);
    return running;
  }

  iomap(...words: string[]): Promise<Result> {
    return this.start(...words).result;
  }

  /** Runs it, and reads what it prints; fails if it does. */
  async json<T>(...words: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.iomap(...words, '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  }

  async statusOf(directory: string): Promise<MountStatus | undefined> {
    const { mounts } = await this.json<{ mounts: MountStatus[] }>('status');
    return mounts.find((mount) => mount.directory === directory);
  }

  /** Kills the process that serves, and waits until the mount is stale. */
  async makeStale(pid: number): Promise<void> {
    process.kill(pid, 'SIGKILL');
    while (isRunning(pid)) await new Promise(setImmediate);
    assert.equal((await this.statusOf(this.mnt))?.state, 'stale');
  }

  get mounts(): string[] {
    return readMountTable()
      .map(({ directory }) => directory)
      .filter((directory) => directory.startsWith(`${this.folder}/`));
  }

  async #end(): Promise<void> {
    for (const directory of this.mounts.reverse()) spawnSync('umount', ['-l', directory]);
    for (const { child, result } of this.#started) {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await result;
    }
    assert.deepEqual(this.mounts, []);
    fs.rmSync(this.folder, { recursive: true });
  }
}

/** Not gone, and not a zombie that nobody has asked about yet. */
function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

test('iomap mount returns once the mount works, and umount once its process has ended', { skip }, async (t) => {
  const place = new Place(t);
  const pidfile = place.path('pid');
  const { code, stdout, stderr } = await place.iomap('mount', 'mem:size=1m', place.mnt, '-o', 'noexec', '--pidfile', pidfile);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^mem:size=1m is mounted on \S+, served by process \d+\n$/);
  fs.writeFileSync(join(place.mnt, 'file'), 'hello');
  assert.equal(fs.readFileSync(join(place.mnt, 'file'), 'utf8'), 'hello');
  assert.equal(fs.statfsSync(place.mnt).blocks * fs.statfsSync(place.mnt).bsize, 2 ** 20);

  const pid = Number(fs.readFileSync(pidfile, 'utf8'));
  const { state, source, type, fsname, readOnly, ...status } = (await place.statusOf(place.mnt)) ?? assert.fail('not in the status');
  assert.deepEqual(
    { state, source, type, fsname, readOnly },
    {
      state: 'answers',
      source: 'mem:size=1m',
      type: 'fuse.iomap',
      fsname: 'mem',
      readOnly: false,
    },
  );
  assert.equal(status.pid, pid);
  assert.ok(readMountTable().some(({ directory, words }) => directory === place.mnt && words.includes('noexec')));

  const umount = await place.iomap('umount', place.mnt);
  assert.equal(umount.code, 0, umount.stderr);
  assert.ok(!isRunning(pid));
  assert.deepEqual(place.mounts, []);
  assert.ok(!fs.existsSync(pidfile));
  assert.deepEqual(fs.readdirSync(place.runtimeDir), []);
});

test('--json tells of a mount and its end', { skip }, async (t) => {
  const place = new Place(t);
  const { pid, protocol, ...facts } = await place.json<MountFacts>('mount', 'mem:', place.mnt, '-o', 'ro,fsname=a/b,subtype=other');
  assert.deepEqual(facts, { source: 'mem:', directory: place.mnt });
  assert.ok(isRunning(pid));
  assert.match(protocol, /^7\.\d+$/);
  assert.throws(() => fs.writeFileSync(join(place.mnt, 'file'), ''), { code: 'EROFS' });
  const status = await place.statusOf(place.mnt);
  assert.deepEqual([status?.type, status?.fsname, status?.readOnly], ['fuse.other', 'a/b', true]);
  assert.deepEqual(await place.json('umount', place.mnt), { directory: place.mnt, lazy: false, pid, ended: true });
});

test('a mount in the foreground ends by SIGTERM, and is unmounted then', { skip }, async (t) => {
  const place = new Place(t);
  const pidfile = place.path('pid');
  const running = place.start('mount', 'mem:', place.mnt, '--foreground', '--pidfile', pidfile);
  await running.says(/is mounted on/);
  fs.mkdirSync(join(place.mnt, 'directory'));
  assert.equal(Number(fs.readFileSync(pidfile, 'utf8')), running.child.pid);
  const { code, stderr } = await running.ends('SIGTERM');
  assert.deepEqual([code, stderr], [0, '']);
  assert.deepEqual(place.mounts, []);
  assert.ok(!fs.existsSync(pidfile));
});

test('a mount in use is served past SIGTERM until its last user has gone', { skip }, async (t) => {
  const place = new Place(t);
  const running = place.start('mount', 'mem:', place.mnt, '--foreground');
  await running.says(/is mounted on/);
  const fd = fs.openSync(join(place.mnt, 'file'), 'w+');
  try {
    running.child.kill('SIGTERM');
    await running.says(/in use/);
    fs.writeSync(fd, 'still there');
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  assert.equal((await running.result).code, 0);
});

test('a second signal ends a mount that is in use', { skip }, async (t) => {
  const place = new Place(t);
  const running = place.start('mount', 'mem:', place.mnt, '--foreground');
  await running.says(/is mounted on/);
  const fd = fs.openSync(join(place.mnt, 'file'), 'w+');
  running.child.kill('SIGTERM');
  await running.says(/in use/);
  assert.equal((await running.ends('SIGTERM')).signal, 'SIGKILL');
  assert.throws(() => fs.closeSync(fd), { code: 'ENOTCONN' });
  assert.deepEqual(place.mounts, []);
  assert.deepEqual(fs.readdirSync(place.runtimeDir), []);
});

test('iomap exec passes on the exit status of its program, and leaves no directory', { skip }, async (t) => {
  const place = new Place(t);
  const script = 'test "$1" = "$IOMAP_DIR" && echo hi > "$2" && cat "$1/file" && echo "$1" && exit 3';
  const { code, stdout, stderr } = await place.iomap('exec', 'mem:', '--', 'sh', '-c', script, 'sh', '{}', '{}/file');
  assert.equal(code, 3, stderr);
  const [text, directory = ''] = stdout.split('\n');
  assert.equal(text, 'hi');
  assert.ok(!fs.existsSync(directory));
  assert.equal((await place.iomap('exec', 'mem:', '--', 'sh', '-c', 'kill -KILL $$')).code, 128 + 9);
  assert.equal((await place.iomap('exec', 'mem:', '--', 'no-such-program')).code, 127);
  assert.equal((await place.iomap('exec', 'mem:', '--', place.folder)).code, 126);
});

test('iomap exec passes SIGTERM on to its program', { skip }, async (t) => {
  const place = new Place(t);
  const running = place.start('exec', 'mem:', '--', process.execPath, '-e', UNTIL_SIGTERM);
  await running.says(/runs/);
  assert.equal((await running.ends('SIGTERM')).code, 42);
});

test('iomap exec waits for what its program left on the mount, until a signal', { skip }, async (t) => {
  const place = new Place(t);
  const script = 'sleep 1000 > "$IOMAP_DIR/file" 2>&1 & echo "$! $IOMAP_DIR"';
  const running = place.start('exec', 'mem:', '--', 'sh', '-c', script);
  await running.says(/in use/);
  const { signal, stdout } = await running.ends('SIGTERM');
  const [pid, directory = ''] = stdout.trim().split(' ');
  process.kill(Number(pid));
  assert.equal(signal, 'SIGKILL');
  assert.ok(!fs.existsSync(directory));
});

test('what cannot be typed exits 2 with the word, and mounts nothing', { skip }, async (t) => {
  const place = new Place(t);
  const wrong: [word: string, ...words: string[]][] = [
    ['bogus', '-o', 'ro,bogus'],
    ['max_read=1', '-o', 'max_read=1'],
    ['--nope', '--nope'],
    ['more', 'more'],
  ];
  for (const [word, ...words] of wrong) {
    const { code, stdout, stderr } = await place.iomap('mount', 'mem:', place.mnt, ...words);
    assert.deepEqual([code, stdout], [2, ''], word);
    assert.match(stderr, new RegExp(`^iomap: .*${word}`), word);
  }
  const { code, stdout } = await place.iomap('mount', 'mem:bogus=1', place.mnt, '--json');
  assert.equal(code, 2);
  assert.equal((JSON.parse(stdout) as { error: { code: string } }).error.code, 'EINVAL');
  assert.deepEqual(place.mounts, []);
});

test('a source that fails is exit status 1 with its error, and nothing is mounted', { skip }, async (t) => {
  const place = new Place(t);
  const pidfile = place.path('pid');
  const sources: [source: string, message: RegExp][] = [
    ['data:text/javascript,export default () => { throw new Error("no such luck") }', /no such luck/],
    ['data:text/javascript,export default () => 1', /made no FileSystem/],
    ['data:text/javascript,process.kill(process.pid, "SIGKILL")', /SIGKILL/],
    [place.path('nothing.js'), /nothing\.js/],
  ];
  for (const [source, message] of sources) {
    const { code, stdout, stderr } = await place.iomap('mount', source, place.mnt, '--pidfile', pidfile, '--json');
    assert.equal(code, 1, source);
    assert.match(stderr, message);
    assert.match((JSON.parse(stdout) as { error: { message: string } }).error.message, message);
  }
  assert.equal((await place.iomap('mount', sources[0]?.[0] ?? '', place.mnt, '--foreground')).code, 1);
  assert.equal((await place.iomap('exec', sources[0]?.[0] ?? '', '--', 'true')).code, 1);
  assert.deepEqual(place.mounts, []);
  assert.ok(!fs.existsSync(pidfile));
});

test('the process in the background ends with the one that started it, until that has its answer', { skip }, async (t) => {
  const place = new Place(t);
  const file = place.path('pid');
  const source = `data:text/javascript,import fs from 'node:fs';
    export default () => new Promise(() => { fs.writeFileSync(${JSON.stringify(`${file}.new`)}, String(process.pid));
      fs.renameSync(${JSON.stringify(`${file}.new`)}, ${JSON.stringify(file)}); setInterval(() => {}, 1e6); })`;
  const running = place.start('mount', source, place.mnt);
  while (!fs.existsSync(file)) await new Promise(setImmediate);
  const pid = Number(fs.readFileSync(file, 'utf8'));
  assert.notEqual(pid, running.child.pid);
  assert.ok(isRunning(pid));
  await running.ends('SIGINT');
  while (isRunning(pid)) await new Promise(setImmediate);
  assert.deepEqual(place.mounts, []);
});

test('a directory that is not there, and a pidfile that cannot be written, are exit status 1', { skip }, async (t) => {
  const place = new Place(t);
  const missing = await place.iomap('mount', 'mem:', place.path('missing'));
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /ENOENT.*missing/);
  const pidfile = await place.iomap('mount', 'mem:', place.mnt, '--pidfile', place.path('missing/pid'));
  assert.equal(pidfile.code, 1);
  assert.match(pidfile.stderr, /ENOENT.*missing\/pid/);
  assert.deepEqual(place.mounts, []);
});

test('iomap umount leaves mounts of others alone', { skip }, async (t) => {
  const place = new Place(t);
  assert.equal(spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', place.mnt]).status, 0);
  const others = await place.iomap('umount', place.mnt);
  assert.equal(others.code, 1);
  assert.match(others.stderr, /EPERM.*tmpfs/);
  assert.deepEqual(place.mounts, [place.mnt]);
  const nothing = await place.iomap('umount', place.folder);
  assert.equal(nothing.code, 1);
  assert.match(nothing.stderr, /EINVAL.*nothing is mounted/);
});

test('iomap umount refuses a mount in use, and takes it away with --lazy', { skip }, async (t) => {
  const place = new Place(t);
  await place.json<MountFacts>('mount', 'mem:', place.mnt);
  const fd = fs.openSync(join(place.mnt, 'file'), 'w+');
  try {
    const busy = await place.iomap('umount', place.mnt);
    assert.equal(busy.code, 1);
    assert.match(busy.stderr, /EBUSY/);
    assert.equal((await place.iomap('umount', place.mnt, '--lazy')).code, 0);
    assert.deepEqual(place.mounts, []);
    fs.writeSync(fd, 'still there');
  } finally {
    fs.closeSync(fd);
  }
});

test('a mount whose process was killed is stale, and is unmounted or replaced', { skip }, async (t) => {
  const place = new Place(t);
  const first = await place.json<MountFacts>('mount', 'mem:', place.mnt);
  await place.makeStale(first.pid);
  assert.equal((await place.statusOf(place.mnt))?.pid, null);
  const second = await place.json<MountFacts>('mount', 'mem:', place.mnt, '--replace-stale');
  fs.mkdirSync(join(place.mnt, 'directory'));
  assert.deepEqual(place.mounts, [place.mnt]);
  await place.makeStale(second.pid);
  assert.equal((await place.iomap('umount', place.mnt)).code, 0);
  assert.deepEqual(place.mounts, []);
});

test('a module makes the filesystem from --args', { skip }, async (t) => {
  const place = new Place(t);
  const memFs = new URL('../../src/fs/memfs/mem-fs.js', import.meta.url).href;
  const module = place.path('source.mjs');
  fs.writeFileSync(module, `import { MemFs } from ${JSON.stringify(memFs)};\nexport default (args) => new MemFs(args);\n`);
  await place.json('mount', module, place.mnt, '--args', '{"inodes": 7}');
  assert.equal(fs.statfsSync(place.mnt).files, 7);
  assert.equal((await place.statusOf(place.mnt))?.fsname, module);
});

test('mirror: shows a directory of the host, in both directions', { skip: skip || whyNoCalls() }, async (t) => {
  const place = new Place(t);
  const host = place.path('host');
  fs.mkdirSync(host);
  fs.writeFileSync(join(host, 'a'), 'from the host');
  await place.json('mount', `mirror:${host}`, place.mnt);
  assert.equal(fs.readFileSync(join(place.mnt, 'a'), 'utf8'), 'from the host');
  fs.writeFileSync(join(place.mnt, 'b'), 'from the mount');
  assert.equal(fs.readFileSync(join(host, 'b'), 'utf8'), 'from the mount');
});

function whyNoCalls(): string | false {
  try {
    new Libc();
    return false;
  } catch (error) {
    return `system calls cannot be made from here: ${(error as Error).message}`;
  }
}

test('an image is mounted, and complete when umount returns; read-only not one byte of it changes', { skip }, async (t) => {
  const place = new Place(t);
  const image = place.path('image');
  fs.writeFileSync(image, gunzipSync(fs.readFileSync(EMPTY_IMAGE)));
  await place.json('mount', image, place.mnt, '-o', 'data=ordered,commit=100');
  const text = 'x'.repeat(300_000);
  fs.writeFileSync(join(place.mnt, 'file'), text);
  assert.equal((await place.statusOf(place.mnt))?.source, image);
  const second = await place.iomap('mount', image, place.folder);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /^iomap: EBUSY.*\n$/);
  await place.json('umount', place.mnt);
  const before = fs.readFileSync(image);
  await place.json('mount', image, place.mnt, '-o', 'ro');
  assert.equal(fs.readFileSync(join(place.mnt, 'file'), 'utf8'), text);
  await place.json('umount', place.mnt);
  assert.ok(before.equals(fs.readFileSync(image)));
  assert.equal((await place.iomap('exec', image, '--', 'cmp', '{}/file', place.path('none'))).code, 2);
});

test('an image that is none is one line and exit status 1', { skip }, async (t) => {
  const place = new Place(t);
  const file = place.path('junk');
  fs.writeFileSync(file, 'x'.repeat(100_000));
  for (const source of [file, `${file}:part1`, place.path('missing')]) {
    const { code, stderr } = await place.iomap('mount', source, place.mnt);
    assert.equal(code, 1);
    assert.match(stderr, /^iomap: E[A-Z]+: [^\n]+\n$/);
  }
  assert.deepEqual(place.mounts, []);
});

/** A module whose unlink waits until a file of the host is there, and whose end fails. */
function waitingModule(place: Place): { module: string; release: () => void } {
  const memFs = new URL('../../src/fs/memfs/mem-fs.js', import.meta.url).href;
  const fsError = new URL('../../src/base/fs-error.js', import.meta.url).href;
  const gate = place.path('gate');
  const module = place.path('waiting.mjs');
  fs.writeFileSync(
    module,
    `import fs from 'node:fs'; import { MemFs } from ${JSON.stringify(memFs)}; import { FsError } from ${JSON.stringify(fsError)};
    class WaitingFs extends MemFs {
      async unlink(...args) {
        while (!fs.existsSync(${JSON.stringify(gate)})) await new Promise((resolve) => setTimeout(resolve, 5));
        return super.unlink(...args);
      }
      async destroy() { await super.destroy(); throw new FsError('ENOSPC', 'write', { detail: 'the last write' }); }
    }
    export default () => new WaitingFs();`,
  );
  return { module, release: () => fs.writeFileSync(gate, '') };
}

test('requests in flight are shown with path and process, and umount tells of an error of the end', { skip }, async (t) => {
  const place = new Place(t);
  const { module, release } = waitingModule(place);
  const log = place.path('log');
  const { pid } = await place.json<MountFacts>('mount', module, place.mnt, '--log', log);
  fs.mkdirSync(join(place.mnt, 'dir'));
  fs.writeFileSync(join(place.mnt, 'dir/file'), '');
  const remover = spawn('rm', [join(place.mnt, 'dir/file')], { stdio: 'ignore' });
  const removed = once(remover, 'exit');
  let found: MountStatus['inFlight'] = [];
  while ((found?.length ?? 0) === 0) found = (await place.statusOf(place.mnt))?.inFlight ?? null;
  const [request] = found ?? [];
  assert.deepEqual([request?.operation, request?.path, request?.name, request?.pid], ['FUSE_UNLINK', '/dir', 'file', remover.pid]);
  assert.ok((request?.ageMs ?? -1) >= 0);
  assert.match((await place.iomap('status')).stdout, new RegExp(`FUSE_UNLINK /dir/file, process ${remover.pid}, `));
  process.kill(pid, 'SIGUSR1');
  while (!/FUSE_UNLINK \/dir\/file/.test(fs.readFileSync(log, 'utf8'))) await new Promise(setImmediate);
  release();
  await removed;
  const umount = await place.iomap('umount', place.mnt);
  assert.equal(umount.code, 1);
  assert.match(umount.stderr, /ENOSPC.*the last write/);
  assert.deepEqual(place.mounts, []);
});

test('--metrics serves counts at the address that it tells', { skip }, async (t) => {
  const place = new Place(t);
  const { metrics } = await place.json<MountFacts>('mount', 'mem:', place.mnt, '--metrics', '127.0.0.1:0');
  fs.mkdirSync(join(place.mnt, 'directory'));
  const text = await (await fetch(`http://${metrics}/metrics`)).text();
  assert.match(text, new RegExp(`^iomap_fuse_requests_total\\{mount="${place.mnt}",operation="FUSE_MKDIR"\\} 1$`, 'm'));
});

test('mount.fuse.iomap mounts as mount(8) asks it to', { skip }, async (t) => {
  const place = new Place(t);
  const env = { ...process.env, IOMAP_RUNTIME_DIR: place.runtimeDir };
  const helper = (...words: string[]) => spawnSync(process.execPath, [HELPER, ...words], { env, encoding: 'utf8' });
  assert.equal(helper('mem:', place.mnt, '-n', '-o', 'rw,noauto,x-systemd.automount,nosuid', '-t', 'fuse.iomap').status, 0);
  assert.ok(readMountTable().some(({ directory, words }) => directory === place.mnt && words.includes('nosuid')));
  await place.json('umount', place.mnt);
  assert.equal(helper('mem:', place.path('missing')).status, 32);
  assert.equal(helper('mem:', place.mnt, '-o', 'bogus').status, 1);
});

test('iomap doctor says that mounting works here, line by line', { skip }, async (t) => {
  const place = new Place(t);
  const { works, findings } = await place.json<{ works: boolean; findings: Finding[] }>('doctor');
  assert.ok(works, JSON.stringify(findings));
  for (const { name, ok, detail } of findings) assert.deepEqual([typeof name, typeof ok, typeof detail], ['string', 'boolean', 'string']);
  const { stdout } = await place.iomap('doctor');
  assert.equal(stdout.split('\n').filter((line) => /^(?:ok|no) {2}\S.*: \S/.test(line)).length, findings.length);
});
