/** Buckets of a histogram of times: the first is for less than 1 microsecond, each next one for less than twice as much, the last for the rest. */
export const HISTOGRAM_BUCKETS = 28;

/** Counts of one operation since the mount began. */
export interface OperationMetrics {
  /** Answered, or taken where there is no answer. */
  readonly count: number;
  /** Answers that were errors, by name: { ENOENT: 3 }. */
  readonly errors: Readonly<Record<string, number>>;
  /** How many took less than 1, 2, 4, ... microseconds from arrival to answer, each counted in one; the last bucket has no end. */
  readonly buckets: readonly number[];
  /** Microseconds of all together. */
  readonly sumUs: number;
}

export interface Metrics {
  /** By C name: FUSE_READ. */
  readonly operations: Readonly<Record<string, OperationMetrics>>;
  /** Requests that have no answer yet. */
  readonly inFlight: number;
}

/** One mount, among those that a process reports on. */
export interface MountMetrics {
  readonly directory: string;
  readonly metrics: Metrics;
}

/** The text form of Prometheus, version 0.0.4. Source: prometheus.io, "Exposition formats". */
export function prometheusText(mounts: readonly MountMetrics[]): string {
  const lines: string[] = [];
  const family = (name: string, type: string, help: string, samples: readonly string[]): void => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples);
  };
  const each = (of: (labels: string, operation: OperationMetrics) => string[]): string[] =>
    mounts.flatMap(({ directory, metrics }) =>
      Object.entries(metrics.operations).flatMap(([name, operation]) =>
        of(`mount="${escaped(directory)}",operation="${escaped(name)}"`, operation),
      ),
    );
  family(
    'iomap_fuse_requests_in_flight',
    'gauge',
    'Requests of the kernel without an answer yet.',
    mounts.map(({ directory, metrics }) => `iomap_fuse_requests_in_flight{mount="${escaped(directory)}"} ${metrics.inFlight}`),
  );
  family(
    'iomap_fuse_requests_total',
    'counter',
    'Requests of the kernel that were answered, or taken where there is no answer.',
    each((labels, { count }) => [`iomap_fuse_requests_total{${labels}} ${count}`]),
  );
  family(
    'iomap_fuse_errors_total',
    'counter',
    'Answers that were errors.',
    each((labels, { errors }) =>
      Object.entries(errors).map(([errno, times]) => `iomap_fuse_errors_total{${labels},errno="${escaped(errno)}"} ${times}`),
    ),
  );
  family(
    'iomap_fuse_request_duration_seconds',
    'histogram',
    'Time from the arrival of a request to its answer.',
    each((labels, operation) => histogram('iomap_fuse_request_duration_seconds', labels, operation)),
  );
  return `${lines.join('\n')}\n`;
}

function histogram(name: string, labels: string, { buckets, sumUs }: OperationMetrics): string[] {
  const samples: string[] = [];
  let below = 0;
  for (const [i, count] of buckets.entries()) {
    below += count;
    const bound = i === buckets.length - 1 ? '+Inf' : String(2 ** i / 1e6);
    samples.push(`${name}_bucket{${labels},le="${bound}"} ${below}`);
  }
  // Operations without an answer take no time, and are in no bucket.
  return below === 0 ? [] : [...samples, `${name}_sum{${labels}} ${sumUs / 1e6}`, `${name}_count{${labels}} ${below}`];
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
