#!/usr/bin/env node
// mount.fuse.iomap: what mount(8) starts for a mount of type fuse.iomap, from fstab or from `mount -t fuse.iomap SOURCE DIR -o WORD,...`.
// It has to be found in /sbin, as a link to this.

import { failureOf } from './failure.ts';
import { helperWords } from './helper-words.ts';
import { mountCommand } from './mount-command.ts';
import { parseCommandLine } from './parse.ts';
import { UsageError } from './usage-error.ts';

/** Exit statuses of mount(8). */
const [USAGE, FAILED] = [1, 32];

try {
  const words = helperWords(process.argv.slice(2));
  process.exitCode = words === undefined ? 0 : await mountCommand(parseCommandLine(words));
} catch (error) {
  process.stderr.write(`mount.fuse.iomap: ${error instanceof UsageError ? error.message : failureOf(error).message}\n`);
  process.exitCode = error instanceof UsageError ? USAGE : FAILED;
}
