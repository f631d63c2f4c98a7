/** Where events of one trace point go. The shape is that of a node:diagnostics_channel Channel. */
export interface TraceChannel {
  readonly hasSubscribers: boolean;
  publish(event: unknown): void;
}

const SILENT: TraceChannel = { hasSubscribers: false, publish: () => {} };

/**
 * A named place in the engine that can be watched. Costs two property reads while nobody watches:
 *
 *   if (traceIoend.channel.hasSubscribers) traceIoend.channel.publish({ ... });
 */
export class TracePoint {
  readonly name: string;
  channel: TraceChannel = SILENT;

  constructor(name: string) {
    this.name = name;
    points.push(this);
    if (bound !== undefined) this.channel = bound(name);
  }
}

const points: TracePoint[] = [];
let bound: ((name: string) => TraceChannel) | undefined;

/** Gives every trace point, those of modules loaded later too, its channel by name. */
export function bindTracer(channelOf: (name: string) => TraceChannel): void {
  bound = channelOf;
  for (const point of points) point.channel = channelOf(point.name);
}

/** Names of all trace points that exist, sorted. */
export function traceNames(): string[] {
  return points.map((point) => point.name).sort();
}
