// Compiles what the package ships into a fresh dist/. Prints how many modules dist/ holds.

import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { filesBelow, plural, root, runProgram, tool } from './tree.ts';

rmSync(join(root, 'dist'), { recursive: true, force: true });
const { code } = await runProgram(tool('tsc'), ['-p', 'tsconfig.build.json'], { stdio: 'inherit' });
if (code === 0) {
  for (const command of ['main', 'mount-helper']) chmodSync(join(root, `dist/cli/${command}.js`), 0o755); // what npm would do at installing
  console.log(`dist: ${plural(filesBelow('dist').filter((file) => file.endsWith('.js')).length, 'module')}`);
}
process.exitCode = code;
