/** A shared library as `readBinary` reads it. */
export interface Binary {
  format: 'ELF' | 'PE' | 'Mach-O'
  processor: 'x86_64' | 'arm64' | undefined
  libraries: string[]
  delayed: string[]
  imports: { name: string; library?: string; version?: string }[]
  exports: string[]
  versions?: string[]
  signed?: boolean
  macos?: string
  locals?: string[]
}

/** @throws Error for a file of another format */
export function readBinary(bytes: Buffer): Binary
