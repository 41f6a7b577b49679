"""Catalogues that every client reads: what of a server's own schemas is only about data, and what holds some.

A driver asks for tables, columns and types all day; none of that is data of the plant (``metadata``, docs/verdicts/undeclared-data.md).
PostgreSQL and MySQL keep such things in schemas that nobody else may fill, so there the few tables are named that hold rows, passwords
or what others run. SQL Server's ``sys`` and Oracle's dictionary mix both, and another server's user may have a schema or a table called
so: of them those names are told one by one that only describe (Transact-SQL, "System catalog views", "Catalog stored procedures"; Oracle
Database Reference, "Static Data Dictionary Views", "Dynamic Performance Views"). What is on no list is data that nobody declared.
"""

import re
from typing import Final


def _listed(names: str) -> frozenset[str]:
    return frozenset(names.split())


_CATALOGS: Final = frozenset({"pg_catalog", "information_schema", "performance_schema"})

# They hold rows of the tables, passwords or both, whatever schema they live in.
_CATALOG_SECRETS: Final = frozenset({
    "pg_authid", "pg_shadow", "pg_stats", "pg_statistic", "pg_largeobject", "pg_user_mapping",
    # MySQL's, in either case: what others run at the moment, and what they have set.
    "processlist", "threads", "prepared_statements_instances", "user_variables_by_thread", "user_attributes",
})  # fmt: skip
"""Tables of a catalogue that hold data, accounts' secrets or the texts of others' statements."""

_MYSQL_DICTIONARY: Final = _listed(
    "character_sets collations columns foreign_keys indexes parameters routines schemata tables tablespaces triggers"
)
"""Tables of MySQL 8's dictionary, which no client may name: SHOW and ``information_schema`` read them, and the answer says so."""

# Neither hashes of passwords (sql_logins, syslogins), keys, histograms of values, texts of statements, nor queues.
_SYS: Final = _listed(
    """
    all_columns all_objects all_parameters all_sql_modules all_views allocation_units assembly_types check_constraints columns
    column_type_usages computed_columns configurations data_spaces database_files database_permissions
    database_principals database_role_members databases default_constraints destination_data_spaces edge_constraints events
    extended_properties external_data_sources external_tables filegroups foreign_key_columns foreign_keys fulltext_catalogs
    fulltext_index_columns fulltext_indexes fulltext_languages hash_indexes identity_columns index_columns indexes key_constraints
    languages masked_columns master_files messages numbered_procedures objects parameters partition_functions partition_parameters
    partition_range_values partition_schemes partitions periods procedures schemas securable_classes sequences server_permissions
    server_principals server_role_members servers service_queues spatial_indexes sql_dependencies sql_expression_dependencies
    sql_modules stats stats_columns synonyms system_columns system_components_surface_area_configuration system_objects
    system_parameters system_sql_modules system_views table_types tables time_zone_info trigger_events triggers type_assembly_usages
    types views xml_indexes xml_schema_collections
    dm_db_partition_stats dm_exec_connections dm_exec_requests dm_exec_sessions dm_os_host_info dm_os_sys_info
    fn_helpcollations fn_listextendedproperty fn_my_permissions
    """
)
"""Of SQL Server's ``sys``."""

_COMPATIBLE: Final = _listed(
    """
    spt_values syscharsets syscolumns syscomments sysconstraints sysdatabases sysdepends sysfilegroups sysfiles sysforeignkeys
    sysindexes sysindexkeys syslanguages sysmembers sysobjects syspermissions sysreferences systypes sysusers
    """
)
"""What versions before 2005 called them: in ``sys``, in ``dbo`` of any database, or without a schema."""

# A procedure of the system runs under such a name whatever a user has made in dbo (Transact-SQL, "CREATE PROCEDURE").
_PROCEDURES: Final = _listed(
    """
    sp_assembly_dependencies_rowset sp_column_privileges sp_column_privileges_ex sp_columns sp_columns_100 sp_columns_90
    sp_columns_ex sp_columns_managed sp_databases sp_datatype_info sp_datatype_info_100 sp_datatype_info_90 sp_depends
    sp_describe_first_result_set sp_describe_parameter_encryption sp_describe_undeclared_parameters sp_fkeys sp_foreignkeys sp_help
    sp_helpconstraint sp_helpdb sp_helpfile sp_helpfilegroup sp_helpgroup sp_helpindex sp_helplanguage sp_helprole
    sp_helprolemember sp_helpserver sp_helpsort sp_helpsrvrole sp_helpsrvrolemember sp_helpstats sp_helptext sp_helptrigger
    sp_helpuser sp_indexes sp_linkedservers sp_oledb_ro_usrname sp_pkeys sp_primarykeys sp_server_info sp_spaceused
    sp_special_columns sp_special_columns_100 sp_special_columns_90 sp_sproc_columns sp_sproc_columns_100 sp_sproc_columns_90
    sp_statistics sp_statistics_100 sp_stored_procedures sp_table_privileges sp_table_privileges_ex sp_tablecollations
    sp_tablecollations_100 sp_tablecollations_90 sp_tables sp_tables_ex xp_msver
    """
)
"""Catalogue procedures of SQL Server, beside those of OLE DB, which end in ``_rowset``."""
_ROWSETS: Final = re.compile(r"sp_[a-z_]+_rowset(_?\d*|_rmt)")

_OWNED: Final = _listed(
    """
    arguments col_comments col_privs coll_types cons_columns constraints db_links dependencies
    ind_columns ind_expressions ind_partitions indexes mview_logs mviews object_tables objects part_indexes
    part_key_columns part_tables procedures role_privs sequences source synonyms sys_privs tab_cols tab_columns
    tab_comments tab_identity_cols tab_partitions tab_privs tab_subpartitions tables tablespaces trigger_cols triggers type_attrs
    type_methods types unused_col_tabs updatable_columns views xml_schemas xml_tables
    """
)
_DICTIONARY: Final = frozenset(
    # A table of an application may well be called USER_TYPES.
    {f"{whose}_{what}".upper() for whose in ("all", "user", "dba") for what in _OWNED} - {"USER_TYPES"}
    | _listed(
        """
        ALL_USERS USER_USERS DATABASE_PROPERTIES DICTIONARY DICT_COLUMNS DUAL GLOBAL_NAME NLS_DATABASE_PARAMETERS
        NLS_INSTANCE_PARAMETERS NLS_SESSION_PARAMETERS PRODUCT_COMPONENT_VERSION ROLE_ROLE_PRIVS
        ROLE_SYS_PRIVS ROLE_TAB_PRIVS SESSION_PRIVS SESSION_ROLES TABLE_PRIVILEGE_MAP
        """
    )
)
"""Oracle's dictionary: neither ``DBA_USERS`` nor ``USER$`` (accounts with their secrets), nor histograms of values."""
_DYNAMIC: Final = _listed(
    """
    ACTIVE_SERVICES CONTAINERS DATABASE INSTANCE LICENSE LOCK MYSTAT NLS_PARAMETERS NLS_VALID_VALUES OPTION PARAMETER PARAMETER2 PDBS
    PROCESS RESERVED_WORDS SERVICES SESSION SESSION_CONNECT_INFO SESSTAT STATNAME SYSSTAT TIMEZONE_NAMES TRANSACTION VERSION
    """
)
"""Behind ``V$``, ``GV$`` and ``V_$``: not what says which statement others run, and with which values."""
_SETTINGS: Final = frozenset(
    f"function:{folder}DBMS_{call}"
    for folder in ("", "SYS.")
    for call in ("APPLICATION_INFO.SET_MODULE", "APPLICATION_INFO.SET_ACTION", "APPLICATION_INFO.SET_CLIENT_INFO", "OUTPUT.ENABLE",
                 "OUTPUT.DISABLE")
)  # fmt: skip
"""Calls with which Oracle's clients set up their session."""


def is_metadata(name: str) -> bool:
    """Whether the object belongs to a catalogue every client reads: a database's own schemas, OPC UA namespace 0, $SYS."""
    if name.startswith(("$SYS/", "ns=0;", "i=")) or name == "$SYS":
        return True
    if name.startswith("function:"):
        return _is_catalogue_procedure(name)
    schema, dot, table = name.rpartition(".")
    if table.lower() in _CATALOG_SECRETS or (schema == "performance_schema" and table.startswith("events_statements_")):
        return False
    if dot:
        # SQL Server's clients put the database in front.
        last = schema.rpartition(".")[2].lower()
        if last in _CATALOGS:
            return "." not in schema or (last == "information_schema" and schema.count(".") == 1)
        # Of MySQL's own database only what every client may read; `mysql.user` and its kin are accounts.
        if schema == "mysql":
            return table.startswith(("help_", "time_zone")) or table in _MYSQL_DICTIONARY
        # SQL*Plus asks for the last one at each login.
        oracle = (schema in ("SYS", "PUBLIC") and _is_of_oracle(table)) or name == "SYSTEM.PRODUCT_PRIVS"
        return oracle or _is_of_sql_server(schema, last, table)
    # pg_catalog is searched before every schema unless search_path says otherwise (PostgreSQL 5.10.5).
    return (name.startswith("pg_") and "/" not in name and ";" not in name) or _is_of_oracle(name)


def _is_of_sql_server(schema: str, last: str, table: str) -> bool:
    """As the decoder names them: ``sys.tables``, ``master.sys.databases``, ``mes..sysobjects``, ``mes.dbo.sysobjects``."""
    if last == "sys":
        return schema.count(".") < 2 and (table in _SYS or table in _COMPATIBLE)
    return last in ("", "dbo") and table in _COMPATIBLE and schema.count(".") == 1


def _is_catalogue_procedure(name: str) -> bool:
    parts = name.removeprefix("function:").split(".")
    procedure = parts[-1].partition(";")[0]
    of_system = len(parts) == 1 or (len(parts) < 4 and parts[-2] in ("sys", "dbo", ""))
    return (of_system and (procedure in _PROCEDURES or _ROWSETS.fullmatch(procedure) is not None)) or name in _SETTINGS


def _is_of_oracle(table: str) -> bool:
    """In upper case, as the dictionary and its decoder have them."""
    if table in _DICTIONARY:
        return True
    head, dollar, rest = table.partition("$")
    return bool(dollar) and head in ("V", "GV", "V_", "GV_") and rest in _DYNAMIC
