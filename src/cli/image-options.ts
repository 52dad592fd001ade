/** The argument and options of commands that look into an image: platform and access to the registry. */
import type { Command } from 'commander';
import type { OpenImageOptions } from '../reader/image.ts';
import type { CliContext } from './command.ts';
import { imageArgument } from './image-argument.ts';
import { platformOption } from './platform-option.ts';
import { IMAGE_FORMS, referrersOf, storeOptions, withReferrers, withRegistryOptions } from './registry-options.ts';

/** Declares the image as the first argument, or two of them, and the options to find it. */
export function withImage(
  command: Command,
  names: readonly string[] = ['image'],
  register: (command: Command) => Command = withRegistryOptions,
): Command {
  withReferrers(register(command)).option('--platform <os/arch>', 'platform of a multi-platform image', platformOption);
  for (const name of names) command.argument(`<${name}>`, IMAGE_FORMS, imageArgument);
  return command;
}

/** Library options from {@link withImage}'s options; `images`: when there are several. */
export async function openOptions(
  context: CliContext,
  options: Record<string, unknown>,
  images: readonly string[] = [],
): Promise<OpenImageOptions> {
  return { ...imageChoices(context, options), store: await storeOptions(context, options, images) };
}

/** The same without access to the registry. */
export function imageChoices(
  { signal, onProgress }: CliContext,
  options: Record<string, unknown>,
): Omit<OpenImageOptions, 'store'> {
  const platform = options.platform as string | undefined;
  return { signal, onProgress, ...referrersOf(options), ...(platform === undefined ? {} : { platform }) };
}
