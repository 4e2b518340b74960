/** Compiled kernels of a source. */
export interface PackModule {
  name: string
  kernels: string[]
  /** `sm`: the compute capability, ten times. */
  images: { sm: number; ptx: boolean; bytes: Uint8Array }[]
}

export function packOf(modules: readonly PackModule[], options?: { raw?: boolean }): Buffer
