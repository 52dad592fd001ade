/** The program around the commands: its version, common options, help. */
import { Command } from 'commander';
import { packageVersion } from '../observe/package-version.ts';
import { withCommonOptions } from './common-options.ts';
import { HEADINGS, helpFormat, output, PROGRAM_EPILOGUE } from './help.ts';

export function programOf(): Command {
  const program = new Command('lacuna')
    .description('Lazy container images: containers start before their image is downloaded.')
    .version(packageVersion(), '-v, --version', 'print the version')
    .configureHelp(helpFormat)
    .configureOutput(output)
    .enablePositionalOptions()
    .exitOverride()
    .showSuggestionAfterError(false)
    .addHelpText('after', PROGRAM_EPILOGUE);
  const help = new Command('help').argument('[command]').description('show the help of a command');
  return withCommonOptions(program).addHelpCommand(help.helpGroup(HEADINGS.operate));
}
