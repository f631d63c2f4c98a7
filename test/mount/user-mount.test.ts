// Mounts of a user other than root, through fusermount3, in a mount namespace where /dev/fuse is open to users as it is on most machines.

import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { whyNoMount } from '../support/fuse-mount.ts';
import { ensure } from '../support/loop-mount.ts';

const CHILD = fileURLToPath(new URL('./user-mount-child.js', import.meta.url));
const UID = 1000;
/** A device node of this namespace only, over the one that is for root. */
const NAMESPACE = `
  dev=$(mktemp -d) && mount -t tmpfs none "$dev" && mknod -m 666 "$dev/fuse" c 10 229 && mount --bind "$dev/fuse" /dev/fuse &&
  umount -l "$dev" && rmdir "$dev" && exec "$@"`;
/** Ends what a process that hangs waits for; nobody but the connection can. */
const ABORT = `
  control=$(mktemp -d) && mount -t fusectl none "$control" &&
  for minor in $(awk -v dir="$1" '$5 == dir { split($3, dev, ":"); print dev[2] }' /proc/self/mountinfo); do echo 1 > "$control/$minor/abort"; done
  umount "$control"; rmdir "$control"`;

function whyNot(): string | false {
  const why = whyNoMount();
  if (why !== false) return why;
  const missing = ensure('fusermount3', 'fuse3');
  if (missing !== undefined) return missing;
  if (spawnSync('unshare', ['-m', '--propagation', 'private', 'true']).status !== 0) return 'there are no mount namespaces';
  // Users have to be able to read this file, and to execute node.
  const readable = spawnSync('setpriv', [`--reuid=${UID}`, `--regid=${UID}`, '--clear-groups', process.execPath, '--check', CHILD]);
  return readable.status === 0 ? false : `user ${UID} cannot run ${CHILD}`;
}

const skip = whyNot();

/** What a user's process says, which mounts on a directory of its own. Afterwards nothing is mounted there. */
function asUser(what: string): SpawnSyncReturns<string> & { readonly left: string } {
  const directory = mkdtempSync(join(tmpdir(), 'iomap-user-'));
  chownSync(directory, UID, UID);
  const child = `timeout -s KILL 15 setpriv --reuid=${UID} --regid=${UID} --clear-groups "$0" "$2" "$1" "$3"`;
  const script = `( ${child} ) & pid=$!; ( sleep 12; ${ABORT} ) > /dev/null 2>&1 3>&- & guard=$!
    wait $pid; status=$?; kill $guard 2>/dev/null; grep -c " $1 " /proc/self/mountinfo >&3; exit $status`;
  try {
    const words = ['-m', '--propagation', 'private', 'sh', '-c', NAMESPACE, 'sh'];
    const ran = spawnSync('unshare', [...words, 'bash', '-c', script, process.execPath, directory, CHILD, what], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      timeout: 30_000,
      killSignal: 'SIGKILL',
    });
    return { ...ran, left: String(ran.output[3]).trim() };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test('a user mounts through fusermount3, and unmounts', { skip, timeout: 60_000 }, () => {
  const { status, stdout, stderr, left } = asUser('unmount');
  assert.deepEqual([status, stdout, left], [0, 'content nosuid nodev\n', '0'], stderr);
});

test('a process of a user leaves no mount, also with a file of its own open that is not written yet', { skip, timeout: 60_000 }, () => {
  for (const what of ['exit', 'exit-busy']) {
    const { status, stderr, left } = asUser(what);
    assert.deepEqual([status, left], [3, '0'], `${what}: ${stderr}`);
  }
});

test('allow_root and allow_other of a user are refused where fuse.conf does not allow them', { skip, timeout: 60_000 }, (t) => {
  if (spawnSync('grep', ['-q', '^user_allow_other', '/etc/fuse.conf']).status === 0) return t.skip('/etc/fuse.conf allows it');
  for (const what of ['allowRoot', 'allowOther']) {
    const { stdout, stderr, left } = asUser(what);
    assert.match(stdout, /^refused: EPERM .*user_allow_other/, stderr);
    assert.equal(left, '0');
  }
});
