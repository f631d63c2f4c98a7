import { readFileSync } from 'node:fs';

/** The version in the package.json above this file, wherever it was compiled to. */
export function packageVersion(): string {
  for (let folder = new URL('.', import.meta.url); ; folder = new URL('..', folder)) {
    const version = versionAt(new URL('package.json', folder));
    if (version !== undefined) return version;
    if (folder.pathname === '/') return 'unknown';
  }
}

function versionAt(file: URL): string | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown; version?: unknown };
    return name === 'iomap' && typeof version === 'string' ? version : undefined;
  } catch {
    return undefined; // not there, or of no interest
  }
}
