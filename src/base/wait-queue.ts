/** Tasks that wait for a state to change. Wakers change the state first, waiters check it again after waking. */
export class WaitQueue {
  #wake: (() => void)[] = [];

  get hasWaiters(): boolean {
    return this.#wake.length > 0;
  }

  /** Resolves at the next wakeAll. */
  wait(): Promise<void> {
    return new Promise((wake) => {
      this.#wake.push(wake);
    });
  }

  wakeAll(): void {
    if (this.#wake.length === 0) return;
    const wake = this.#wake;
    this.#wake = [];
    for (const each of wake) each();
  }
}
