/** What was typed makes no command: exit status 2, where an FsError or any other error is 1. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  /** The command that it is about, if it got that far. */
  readonly command: string | undefined;

  constructor(message: string, command?: string) {
    super(message);
    this.command = command;
  }
}
