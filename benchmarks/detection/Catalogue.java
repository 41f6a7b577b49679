import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.util.Properties;

/** What a JDBC tool asks of a database before anybody has typed a query: URL, user; the password stands in PGPASSWORD. */
public final class Catalogue {
    public static void main(String[] given) throws Exception {
        Properties login = new Properties();
        login.setProperty("user", given[1]);
        login.setProperty("password", System.getenv("PGPASSWORD"));
        login.setProperty("sslmode", "disable");
        login.setProperty("gssEncMode", "disable");
        login.setProperty("ApplicationName", "reports");
        try (Connection c = DriverManager.getConnection(given[0], login)) {
            DatabaseMetaData m = c.getMetaData();
            m.getSQLKeywords();
            m.getMaxColumnNameLength();
            for (ResultSet r : new ResultSet[] {
                m.getCatalogs(), m.getSchemas(), m.getTableTypes(), m.getTypeInfo(), m.getTables(null, null, "%", null),
                m.getColumns(null, "mes", "%", "%"), m.getPrimaryKeys(null, "mes", "work_order"),
                m.getImportedKeys(null, "mes", "work_order"), m.getIndexInfo(null, "mes", "work_order", false, true),
                m.getTablePrivileges(null, "mes", "%"), m.getFunctions(null, null, "%"), m.getClientInfoProperties()
            }) {
                while (r.next()) { }
                r.close();
            }
            c.isValid(2);
            try (ResultSet r = c.createStatement().executeQuery("select id, product from mes.work_order where id < 40")) {
                while (r.next()) { }
            }
        }
    }
}
