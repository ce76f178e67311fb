/** Dispatch, follow and operate background agents of Legwork over HTTP. */

import type { Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type { components, paths };
export type Job = components["schemas"]["Job"];

/** Part of a job's output. `output` is missing where the bytes are not UTF-8. */
export interface Output {
  output?: string;
  output_base64?: string;
  output_offset: number;
  next_offset: number;
}

/** One event of a job. Give its id as `lastEventId` to continue after it. */
export type JobEvent =
  | { name: "state"; id: string; data: Omit<Job, "task" | "result"> }
  | { name: "output"; id: string; data: Output; bytes: Uint8Array }
  | { name: "end"; id: string; data: Job };

export interface StreamOptions {
  /** The id of the last event that was seen. */
  lastEventId?: string;
  /** Ends the stream, not the job. */
  signal?: AbortSignal;
  /** Seconds without an event and without a connection after which the stream throws; 300 by default. */
  giveUpAfter?: number;
}

export interface LegworkOptions {
  /** `http://127.0.0.1:7878` by default. */
  url?: string;
  token?: string;
  fetch?: typeof globalThis.fetch;
}

/** What the server answered instead of carrying out a request of a stream. */
export class ProblemError extends Error {
  status: number;
  code: string;
  hint: string | null;
}

export interface Legwork extends Client<paths> {
  /** A job's events until its end, each byte of output once; comes back after a lost connection. */
  stream(id: string, options?: StreamOptions): AsyncGenerator<JobEvent, void, undefined>;
}

export function createLegwork(options?: LegworkOptions): Legwork;
